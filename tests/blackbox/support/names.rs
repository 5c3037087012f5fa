//! Names for the probe alone. It runs with an `/etc` of its own, and the name servers are the test's, on port 53 of loopback
//! addresses of their own. Both need `privileges::root()`.

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use super::{
    pki::Files,
    probe::{Probe, Ran, Running},
};

/// What a name server does with a question.
#[derive(Clone)]
pub enum Resolver {
    Answers(Vec<IpAddr>),
    /// Answers for this name only; others do not exist.
    Knows(&'static str, Vec<IpAddr>),
    /// Answers with an alias for another name, and its addresses.
    AnswersByAlias(Vec<IpAddr>),
    /// Answers for the type of these addresses, and stays silent for the other.
    AnswersHalf(Vec<IpAddr>),
    /// Sends other addresses first, with another ID and with another question.
    AnswersAfterForgeries(Vec<IpAddr>),
    /// Answers over TCP; over UDP it only says that the answer is too long.
    AnswersOverTcp(Vec<IpAddr>),
    /// Answers so many questions by the first, and the others by the second.
    AtFirst(Arc<AtomicUsize>, Box<Resolver>, Box<Resolver>),
    SaysNoSuchName,
    Fails,
    /// Answers with this response code and nothing else.
    Says(u8),
    StaysSilent,
}

/// A name server that notes what it is asked.
pub struct NameServer {
    pub address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Serves DNS (RFC 1035) on port 53 of this address, over UDP and TCP, as long as the test runs.
    pub fn new(address: [u8; 4], resolver: Resolver) -> Self {
        const FREE: &str = "port 53 is free, and we are root";

        let address = Ipv4Addr::from(address);
        let socket = UdpSocket::bind((address, 53)).expect(FREE);
        let listener = TcpListener::bind((address, 53)).expect(FREE);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (over_tcp, log) = (resolver.clone(), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("a connection comes");
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("a length comes");
                let mut packet = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut packet).expect("a query comes");
                for message in over_tcp.messages(&note(&packet, " TCP", &log)) {
                    let length = u16::try_from(message.len()).expect("it fits").to_be_bytes();
                    stream.write_all(&[&length[..], &message].concat()).expect("the probe reads it");
                }
            }
        });
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                for message in resolver.messages(&note(&packet[..length], "", &log)) {
                    socket.send_to(&message, from).expect("loopback takes it");
                }
            }
        });
        Self { address, asked }
    }

    /// What it was asked, sorted: `name A`, or `name A TCP`.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("nobody panics with it").clone();
        asked.sort();
        asked
    }
}

/// A query, and what it asks.
struct Query {
    packet: Vec<u8>,
    name: String,
    rtype: u8,
    is_over_tcp: bool,
}

/// Reads a query, and notes it.
fn note(packet: &[u8], transport: &str, log: &Mutex<Vec<String>>) -> Query {
    let (mut labels, mut position) = (Vec::new(), 12);
    while packet[position] > 0 {
        let end = position + 1 + usize::from(packet[position]);
        labels.push(String::from_utf8_lossy(&packet[position + 1..end]));
        position = end;
    }
    let (name, rtype) = (labels.join("."), packet[position + 2]);
    let letters = if rtype == 1 { "A" } else { "AAAA" };
    log.lock().expect("nobody panics with it").push(format!("{name} {letters}{transport}"));
    Query { packet: packet[..position + 5].to_vec(), name, rtype, is_over_tcp: !transport.is_empty() }
}

impl Query {
    /// An answer with this code and the addresses of the type that was asked for.
    fn answer(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        self.answer_with(code, &[], 12, addresses)
    }

    /// The same, after another record, and for the name at this position.
    fn answer_with(&self, code: u8, first: &[u8], name: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> =
            addresses.iter().filter(|it| rtype(it) == self.rtype).map(|it| record(it, name)).collect();
        let count = u8::try_from(records.len()).expect("a few") + u8::from(!first.is_empty());
        let head = [self.packet[0], self.packet[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        [&head[..], &self.packet[12..], first, &records.concat()].concat()
    }
}

impl Resolver {
    /// The messages that answer a query.
    fn messages(&self, query: &Query) -> Vec<Vec<u8>> {
        let wrong: IpAddr = [127, 66, 66, 66].into();
        let answer = match self {
            Self::AtFirst(left, first, then) => {
                let is_first = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                return if is_first { first.messages(query) } else { then.messages(query) };
            }
            Self::Answers(addresses) => query.answer(0, addresses),
            Self::Knows(name, addresses) if query.name == *name => query.answer(0, addresses),
            Self::AnswersByAlias(addresses) => {
                let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 7, 5, b'a', b'l', b'i', b'a', b's', 0];
                let of_alias = u8::try_from(query.packet.len() + 12).expect("the name is short");
                query.answer_with(0, &alias, of_alias, addresses)
            }
            Self::AnswersHalf(addresses) if addresses.iter().any(|it| rtype(it) == query.rtype) => {
                query.answer(0, addresses)
            }
            Self::AnswersAfterForgeries(addresses) => {
                let (mut other_id, mut other_name) = (query.answer(0, &[wrong]), query.answer(0, &[wrong]));
                other_id[1] ^= 1;
                other_name[13] ^= 1;
                return vec![other_id, other_name, query.answer(0, addresses)];
            }
            Self::AnswersOverTcp(addresses) if query.is_over_tcp => query.answer(0, addresses),
            Self::AnswersOverTcp(_) => {
                let mut answer = query.answer(0, &[wrong]);
                answer[2] |= 2;
                answer
            }
            Self::SaysNoSuchName | Self::Knows(..) => query.answer(3, &[]),
            Self::Fails => query.answer(2, &[]),
            Self::Says(code) => query.answer(*code, &[]),
            Self::StaysSilent | Self::AnswersHalf(_) => return Vec::new(),
        };
        vec![answer]
    }
}

fn rtype(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 1 } else { 28 }
}

/// A record of type A or AAAA for the name at this position: class IN, 60 seconds.
fn record(address: &IpAddr, name: u8) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u8::try_from(octets.len()).expect("4 or 16");
    [&[0xc0, name, 0, rtype(address), 0, 1, 0, 0, 0, 60, 0, length][..], &octets].concat()
}

/// Serves DNS on port 53 of this address, as long as the test runs.
pub fn resolve_on(address: [u8; 4], resolver: Resolver) -> Ipv4Addr {
    NameServer::new(address, resolver).address
}

/// The probe with this `/etc/hosts` and this `/etc/resolv.conf`, after these commands of the shell.
pub fn probe_after(commands: &str, hosts: &str, resolv_conf: &str, arguments: &[&str]) -> (Probe, Files) {
    let files = Files::new();
    let (hosts, resolv) = (files.write("hosts", hosts), files.write("resolv.conf", resolv_conf));
    // All of /etc: the machine's resolv.conf may be a link that leads nowhere, and nothing can be mounted on that.
    let script = format!("mount --bind \"$ETC\" /etc && {commands} exec \"$0\" \"$@\"");
    let probe = Probe::wrapped(&["unshare", "--mount", "sh", "-c", &script], arguments);
    (probe.env("ETC", files.path("")).env("HOSTS", hosts).env("RESOLV", resolv), files)
}

/// Starts the probe with this `/etc/hosts` and this name server.
pub fn start_in(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> (Running, Files) {
    let (probe, files) = probe_after("", hosts, &format!("nameserver {name_server}\n"), arguments);
    (probe.start(), files)
}

/// Runs the probe with this `/etc/hosts` and this name server.
pub fn probe_in(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> Ran {
    let (running, _files) = start_in(hosts, name_server, arguments);
    running.finish()
}

/// Runs the probe with this `/etc/resolv.conf`.
pub fn probe_with(resolv_conf: &str, arguments: &[&str]) -> Ran {
    let (probe, _files) = probe_after("", "", resolv_conf, arguments);
    probe.run()
}
