//! How the cost of a probe grows with what it has to do.

use std::fmt::Write;
use std::fs;
use std::process::Command;

use anyhow::{Result, bail};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::machine;
use crate::runs::{Runs, measure};
use crate::table::{Table, number};
use crate::workshop::{Server, Workshop};

pub fn report(workshop: &Workshop, rounds: u32) -> Result<String> {
    let mut report = format!(
        "# How the cost of a probe grows\n\n\
         Whole processes, run in turn, {rounds} rounds; medians, for wall time also the 95th percentile. Measured with \
         {}, by `cargo bench -- --growth`.\n",
        machine::describe(workshop.probe.path())
    );
    for section in [
        services(workshop, rounds)?,
        addresses(workshop, rounds)?,
        chain(workshop, rounds)?,
        bundle(workshop, rounds)?,
        at_once(workshop, rounds)?,
    ] {
        report += "\n";
        report += &section;
    }
    Ok(report)
}

fn services(workshop: &Workshop, rounds: u32) -> Result<String> {
    let names: Vec<String> = (1..=100).map(|number| format!("shop.Service{number}")).collect();
    let flags: Vec<String> = names.iter().map(|name| format!("--service={name}=SERVING")).collect();
    let server = workshop.serve(&flags.iter().map(String::as_str).collect::<Vec<_>>())?;

    let mut growth = Growth::new("Services asked about in one run", "service");
    for count in [1, 10, 100_u32] {
        let flags: Vec<String> = names.iter().take(count as usize).map(|name| format!("-service={name}")).collect();
        growth.step(count, workshop.probe.command(&server.address, &flags));
    }
    growth.measure(Command::new(&workshop.measure), rounds)
}

/// A name has so many addresses that refuse, and then one that answers. Such names are made by a file in place of
/// `/etc/hosts`, in a mount namespace of its own.
fn addresses(workshop: &Workshop, rounds: u32) -> Result<String> {
    const MOST: u32 = 8;
    let title = "Addresses of a name that refuse before one answers";
    let may_mount = Command::new("unshare").args(["--mount", "true"]).output().is_ok_and(|it| it.status.success());
    if !may_mount {
        return Ok(format!("## {title}\n\nLeft out: only root may have an /etc/hosts of its own for it.\n"));
    }
    // The resolver puts first what is most like the address that we would dial from, 127.0.0.1.
    let server = workshop.serve(&["--addr=127.200.0.1:0"])?;
    let port = server.address.rsplit(':').next().unwrap_or_default();

    let mut growth = Growth::new(title, "address");
    let mut hosts = String::new();
    for count in 1..=MOST {
        for refusing in 0..count {
            writeln!(hosts, "127.0.0.{} name{count}", refusing + 2)?;
        }
        writeln!(hosts, "127.200.0.1 name{count}")?;
        growth.step(count, workshop.probe.command(&format!("name{count}:{port}"), &[]));
    }
    fs::write(workshop.file("hosts"), hosts)?;
    let mut meter = Command::new("unshare");
    meter
        .args(["--mount", "sh", "-c", r#"mount --bind "$HOSTS" /etc/hosts && exec "$0" "$@""#])
        .arg(&workshop.measure)
        .env("HOSTS", workshop.file("hosts"));
    growth.measure(meter, rounds)
}

fn chain(workshop: &Workshop, rounds: u32) -> Result<String> {
    let root = authority("Example Root")?;
    fs::write(workshop.file("root.pem"), root.pem())?;
    let mut growth = Growth::new("Intermediate certificates that the server sends", "certificate");
    let mut servers: Vec<Server> = Vec::new();
    for count in [0, 1, 3, 5] {
        let (certificate, key) = (format!("chain-{count}.pem"), format!("chain-{count}.key"));
        let (chain, private) = issue(&root, count)?;
        fs::write(workshop.file(&certificate), chain)?;
        fs::write(workshop.file(&key), private)?;
        let server = workshop.serve_tls(&certificate, &key, &[])?;
        let flags = ["-tls".to_owned(), format!("-tls-ca-cert={}", workshop.file("root.pem"))];
        growth.step(count, workshop.probe.command(&server.address, &flags));
        servers.push(server);
    }
    growth.measure(Command::new(&workshop.measure), rounds)
}

/// Our CA is the last of so many.
fn bundle(workshop: &Workshop, rounds: u32) -> Result<String> {
    let server = workshop.serve_tls("server.pem", "server.key", &[])?;
    let ours = fs::read_to_string(workshop.file("ca.pem"))?;
    let strangers: Vec<String> =
        (1..1000).map(|number| Ok(authority(&format!("Stranger {number}"))?.pem())).collect::<Result<_>>()?;
    let mut growth = Growth::new("CAs in the file of `-tls-ca-cert`", "CA");
    for count in [1, 10, 140, 1000_u32] {
        let file = workshop.file(&format!("{count}-cas.pem"));
        fs::write(&file, strangers[..count as usize - 1].concat() + &ours)?;
        let flags = ["-tls".to_owned(), format!("-tls-ca-cert={file}")];
        growth.step(count, workshop.probe.command(&server.address, &flags));
    }
    growth.measure(Command::new(&workshop.measure), rounds)
}

/// As when a machine comes up with many containers.
fn at_once(workshop: &Workshop, rounds: u32) -> Result<String> {
    const MOST: u32 = 100;
    eprintln!("measuring: many probes at once");
    let server = workshop.serve(&[])?;
    let programs: Vec<_> = [&workshop.probe].into_iter().chain(&workshop.others).collect();
    // How long they wait is what is measured; it must not end in a timeout.
    let flags = ["-connect-timeout=30s", "-rpc-timeout=30s"].map(str::to_owned);
    let commands: Vec<_> = programs.iter().map(|program| program.command(&server.address, &flags)).collect();
    let mut table =
        Table::new(&["program"], &["at once", "wall µs", "p99 µs", "CPU µs", "page faults", "peak RSS KiB"]);
    let mut sentences = String::new();
    for copies in [1, 10, MOST] {
        // About as many runs of each kind, but not from one moment only.
        let rounds = (rounds / copies).max(5);
        let all = measure(Command::new(&workshop.measure), copies, rounds, &commands)?;
        for (program, runs) in programs.iter().zip(all) {
            must_be_healthy(&format!("{copies} {} at once", program.name), &runs)?;
            let (half, nearly_all) = (runs.wall(50), runs.wall(99));
            let numbers = [copies, half, nearly_all, runs.cpu(), runs.faults(), runs.rss()];
            table.row(&[&program.name], &numbers.map(number));
            if copies == MOST {
                let (half, nearly_all) = (number(half.div_ceil(1000)), number(nearly_all.div_ceil(1000)));
                sentences += &format!(
                    "Of {MOST} {} at once, half end within {half} ms and 99 within {nearly_all} ms.\n",
                    program.name
                );
            }
        }
    }
    Ok(format!("## Many probes at once, each asking the same server in plaintext\n\n{table}\n{sentences}"))
}

/// One probe in several sizes of the same task.
struct Growth {
    title: &'static str,
    /// What there is more of in each step.
    thing: &'static str,
    counts: Vec<u32>,
    commands: Vec<Vec<String>>,
}

impl Growth {
    fn new(title: &'static str, thing: &'static str) -> Self {
        Self { title, thing, counts: Vec::new(), commands: Vec::new() }
    }

    fn step(&mut self, count: u32, command: Vec<String>) {
        self.counts.push(count);
        self.commands.push(command);
    }

    fn measure(&self, meter: Command, rounds: u32) -> Result<String> {
        eprintln!("measuring: {}", self.title);
        let all = measure(meter, 1, rounds, &self.commands)?;
        let mut table = Table::new(&[], &["number", "wall µs", "p95 µs", "CPU µs", "page faults", "peak RSS KiB"]);
        for (&count, runs) in self.counts.iter().zip(&all) {
            must_be_healthy(&format!("{}: {count}", self.title), runs)?;
            let numbers = [count, runs.wall(50), runs.wall(95), runs.cpu(), runs.faults(), runs.rss()];
            table.row(&[], &numbers.map(number));
        }
        Ok(format!("## {}\n\n{table}\n{}\n", self.title, self.sentence(&all)))
    }

    /// Says what one more costs, taken over the whole range.
    fn sentence(&self, all: &[Runs]) -> String {
        let (first, last) = (0, all.len() - 1);
        let more = f64::from(self.counts[last] - self.counts[first]);
        let each = |of: fn(&Runs) -> u32| (f64::from(of(&all[last])) - f64::from(of(&all[first]))) / more;
        format!(
            "From {} to {}, each further {} costs {:.1} µs of CPU and {:.1} KiB.",
            number(self.counts[first]),
            number(self.counts[last]),
            self.thing,
            each(Runs::cpu),
            each(Runs::rss)
        )
    }
}

fn must_be_healthy(what: &str, runs: &Runs) -> Result<()> {
    match runs.wrong(|code| code == 0) {
        Some(words) => bail!("{what}: {words}"),
        None => Ok(()),
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority> {
    Ok(CertifiedIssuer::self_signed(authority_params(name)?, KeyPair::generate()?)?)
}

fn authority_params(name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::new([])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(params)
}

/// Issues a server's certificate through so many intermediate ones, and returns the chain and the key.
fn issue(root: &Authority, intermediates: u32) -> Result<(String, String)> {
    let mut above: Vec<Authority> = Vec::new();
    for number in 1..=intermediates {
        let params = authority_params(&format!("Example Intermediate {number}"))?;
        above.push(CertifiedIssuer::signed_by(params, KeyPair::generate()?, above.last().unwrap_or(root))?);
    }
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(["127.0.0.1".to_owned()])?;
    let certificate = certificate.signed_by(&key, above.last().unwrap_or(root))?;
    // Each is followed by its issuer's. The client has the root.
    let chain: String = above.iter().rev().map(Authority::pem).collect();
    Ok((certificate.pem() + &chain, key.serialize_pem()))
}
