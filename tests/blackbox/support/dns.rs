//! Name servers on port 53 of loopback addresses, and a probe with its own `/etc`. Both need `needs::root()`.

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
    probe::{Probe, RunResult, Running},
};

/// An address where no name server is, for names that are in the hosts file.
pub const NO_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 0, 98);

/// How a name server answers.
#[derive(Clone)]
pub enum Behavior {
    Answers(Vec<IpAddr>),
    /// Answers for this name only; others do not exist.
    AnswersOnly(&'static str, Vec<IpAddr>),
    /// Answers with a CNAME and the addresses of its target.
    AnswersWithCname(Vec<IpAddr>),
    /// Answers for the type of these addresses and ignores questions for the other type.
    AnswersOneFamily(Vec<IpAddr>),
    /// First sends two forged answers: one with another ID, one for another question.
    ForgesBeforeAnswering(Vec<IpAddr>),
    /// Answers over TCP. Its UDP answers are truncated.
    TruncatesOverUdp(Vec<IpAddr>),
    /// Answers this number of questions in the first way, and all others in the second.
    AtFirst(Arc<AtomicUsize>, Box<Behavior>, Box<Behavior>),
    NoSuchName,
    ServFail,
    /// Answers with this response code only.
    ResponseCode(u8),
    Silent,
}

/// A name server that records the questions.
pub struct NameServer {
    pub address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl NameServer {
    /// Serves DNS (RFC 1035) on port 53 of this address, over UDP and TCP, until the test process ends.
    pub fn new(address: [u8; 4], behavior: Behavior) -> Self {
        const PORT_IS_FREE: &str = "port 53 is free, and the test runs as root";

        let address = Ipv4Addr::from(address);
        let socket = UdpSocket::bind((address, 53)).expect(PORT_IS_FREE);
        let listener = TcpListener::bind((address, 53)).expect(PORT_IS_FREE);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (tcp_behavior, log) = (behavior.clone(), Arc::clone(&asked));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.expect("the probe connects");
                let mut length = [0; 2];
                stream.read_exact(&mut length).expect("the length arrives");
                let mut packet = vec![0; u16::from_be_bytes(length).into()];
                stream.read_exact(&mut packet).expect("the query arrives");
                for message in tcp_behavior.messages(&record_question(&packet, " TCP", &log)) {
                    let length = u16::try_from(message.len()).expect("it fits").to_be_bytes();
                    stream.write_all(&[&length[..], &message].concat()).expect("the probe reads it");
                }
            }
        });
        let log = Arc::clone(&asked);
        thread::spawn(move || {
            let mut packet = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut packet) {
                for message in behavior.messages(&record_question(&packet[..length], "", &log)) {
                    socket.send_to(&message, from).expect("sending on loopback succeeds");
                }
            }
        });
        Self { address, asked }
    }

    /// The questions, sorted: `name A`, or `name A TCP`.
    pub fn asked(&self) -> Vec<String> {
        let mut asked = self.asked.lock().expect("the lock is not poisoned").clone();
        asked.sort();
        asked
    }
}

/// A query and its question.
struct Query {
    packet: Vec<u8>,
    name: String,
    rtype: u8,
    is_over_tcp: bool,
}

/// Parses a query and records its question.
fn record_question(packet: &[u8], transport: &str, log: &Mutex<Vec<String>>) -> Query {
    let (mut labels, mut position) = (Vec::new(), 12);
    while packet[position] > 0 {
        let end = position + 1 + usize::from(packet[position]);
        labels.push(String::from_utf8_lossy(&packet[position + 1..end]));
        position = end;
    }
    let (name, rtype) = (labels.join("."), packet[position + 2]);
    let letters = if rtype == 1 { "A" } else { "AAAA" };
    log.lock().expect("the lock is not poisoned").push(format!("{name} {letters}{transport}"));
    Query { packet: packet[..position + 5].to_vec(), name, rtype, is_over_tcp: !transport.is_empty() }
}

impl Query {
    /// An answer with this code and the addresses of the type in the question.
    fn answer(&self, code: u8, addresses: &[IpAddr]) -> Vec<u8> {
        self.answer_with(code, &[], 12, addresses)
    }

    /// The same, with `first` as another record before them, and with the owner name at position `name`.
    fn answer_with(&self, code: u8, first: &[u8], name: u8, addresses: &[IpAddr]) -> Vec<u8> {
        let records: Vec<Vec<u8>> =
            addresses.iter().filter(|it| rtype(it) == self.rtype).map(|it| record(it, name)).collect();
        let count = u8::try_from(records.len()).expect("there are few records") + u8::from(!first.is_empty());
        let head = [self.packet[0], self.packet[1], 0x81, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0];
        [&head[..], &self.packet[12..], first, &records.concat()].concat()
    }
}

impl Behavior {
    /// The messages that answer a query.
    fn messages(&self, query: &Query) -> Vec<Vec<u8>> {
        let wrong: IpAddr = [127, 66, 66, 66].into();
        let answer = match self {
            Self::AtFirst(left, first, then) => {
                let is_first = left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                return if is_first { first.messages(query) } else { then.messages(query) };
            }
            Self::Answers(addresses) => query.answer(0, addresses),
            Self::AnswersOnly(name, addresses) if query.name == *name => query.answer(0, addresses),
            Self::AnswersWithCname(addresses) => {
                let alias = [0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60, 0, 7, 5, b'a', b'l', b'i', b'a', b's', 0];
                let alias_target = u8::try_from(query.packet.len() + 12).expect("the name is short");
                query.answer_with(0, &alias, alias_target, addresses)
            }
            Self::AnswersOneFamily(addresses) if addresses.iter().any(|it| rtype(it) == query.rtype) => {
                query.answer(0, addresses)
            }
            Self::ForgesBeforeAnswering(addresses) => {
                let (mut other_id, mut other_name) = (query.answer(0, &[wrong]), query.answer(0, &[wrong]));
                other_id[1] ^= 1;
                other_name[13] ^= 1;
                return vec![other_id, other_name, query.answer(0, addresses)];
            }
            Self::TruncatesOverUdp(addresses) if query.is_over_tcp => query.answer(0, addresses),
            Self::TruncatesOverUdp(_) => {
                let mut answer = query.answer(0, &[wrong]);
                answer[2] |= 2;
                answer
            }
            Self::NoSuchName | Self::AnswersOnly(..) => query.answer(3, &[]),
            Self::ServFail => query.answer(2, &[]),
            Self::ResponseCode(code) => query.answer(*code, &[]),
            Self::Silent | Self::AnswersOneFamily(_) => return Vec::new(),
        };
        vec![answer]
    }
}

fn rtype(address: &IpAddr) -> u8 {
    if address.is_ipv4() { 1 } else { 28 }
}

/// A record of type A or AAAA with the owner name at this position: class IN, TTL 60 seconds.
fn record(address: &IpAddr, name: u8) -> Vec<u8> {
    let octets = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = u8::try_from(octets.len()).expect("4 or 16");
    [&[0xc0, name, 0, rtype(address), 0, 1, 0, 0, 0, 60, 0, length][..], &octets].concat()
}

/// Serves DNS on port 53 of this address until the test process ends.
pub fn name_server_on(address: [u8; 4], behavior: Behavior) -> Ipv4Addr {
    NameServer::new(address, behavior).address
}

/// The probe with this `/etc/hosts` and this `/etc/resolv.conf`. The shell runs `commands` first.
pub fn probe_with_etc(commands: &str, hosts: &str, resolv_conf: &str, arguments: &[&str]) -> (Probe, Files) {
    let files = Files::new();
    let (hosts, resolv) = (files.write("hosts", hosts), files.write("resolv.conf", resolv_conf));
    // Replaces all of /etc: the machine's resolv.conf may be a dangling link, which cannot be a mount point.
    let script = format!("mount --bind \"$ETC\" /etc && {commands} exec \"$0\" \"$@\"");
    let probe = Probe::wrapped(&["unshare", "--mount", "sh", "-c", &script], arguments);
    (probe.env("ETC", files.path("")).env("HOSTS", hosts).env("RESOLV", resolv), files)
}

/// Starts the probe with this `/etc/hosts` and this name server.
pub fn start_with_dns(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> (Running, Files) {
    let (probe, files) = probe_with_etc("", hosts, &format!("nameserver {name_server}\n"), arguments);
    (probe.start(), files)
}

/// Runs the probe with this `/etc/hosts` and this name server.
pub fn run_with_dns(hosts: &str, name_server: Ipv4Addr, arguments: &[&str]) -> RunResult {
    let (running, _files) = start_with_dns(hosts, name_server, arguments);
    running.finish()
}

/// Runs the probe with this `/etc/resolv.conf`.
pub fn run_with_resolv_conf(resolv_conf: &str, arguments: &[&str]) -> RunResult {
    let (probe, _files) = probe_with_etc("", "", resolv_conf, arguments);
    probe.run()
}
