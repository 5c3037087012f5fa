//! Limits: whatever a server, an agent or a file holds, a probe of one server takes at most 16 MiB of memory, and `-all-addresses`
//! another 64 KiB for each address.
//!
//! A limit on what a process may write to (`RLIMIT_DATA`) ends a probe that takes more. It leaves out the code, which has up to
//! three of the 16 MiB.

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
};

use rustls::{ServerConnection, StreamOwned};

use crate::support::{
    dns::probe_with_etc,
    frames::{self, CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, answer, frame, message, ok_headers},
    needs,
    peer::{Connection, Peer},
    pki::{Authority, Files},
    probe::{Probe, RunResult},
    server::{self, Reply, TlsSetup},
    workload::{Agent, Reply as Svids},
};

/// How much the probe of one server may write to, in KiB.
const ONE_SERVER: usize = (16 - 3) * 1024;
const PER_ADDRESS: usize = 64;
/// Far longer than a probe takes on a busy machine.
const LONG_TIMEOUTS: [&str; 2] = ["-connect-timeout=25s", "-rpc-timeout=25s"];

/// The probe of one server.
fn bounded<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Probe {
    let limit = format!("--data={}", ONE_SERVER * 1024);
    Probe::wrapped(&["prlimit", &limit], LONG_TIMEOUTS.into_iter().chain(arguments))
}

/// The probe of so many addresses, which have the name `backend`.
fn bounded_for_each(count: usize, arguments: &[&str]) -> (Probe, Files) {
    let addresses = (1..=count).map(|number| format!("127.0.{}.{} backend\n", 20 + number / 200, 1 + number % 200));
    let limit = format!("ulimit -d {} &&", ONE_SERVER + count * PER_ADDRESS);
    probe_with_etc(&limit, &addresses.collect::<String>(), "", &[&LONG_TIMEOUTS[..], arguments].concat())
}

/// A listener on every address, and its port.
fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("there is a free port");
    let port = listener.local_addr().expect("it is bound").port();
    (listener, port)
}

/// A field of a protobuf message.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut field = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 128 {
        field.push(u8::try_from(length % 128 + 128).expect("below 256"));
        length /= 128;
    }
    field.push(u8::try_from(length).expect("below 128"));
    field.extend_from_slice(bytes);
    field
}

/// A `HealthListResponse` with so many services, all `NOT_SERVING`.
fn list(count: usize, name: impl Fn(usize) -> String) -> Vec<u8> {
    (0..count).flat_map(|number| field(1, &[field(1, name(number).as_bytes()), field(2, &[8, 2])].concat())).collect()
}

/// Sends a list, as the client's windows allow, and waits until it goes.
fn send_list(peer: &mut Connection, list: &[u8]) {
    peer.take_request();
    peer.send(ok_headers());
    let mut window = 65_535;
    for chunk in message(list).chunks(8192) {
        while window < chunk.len() {
            match peer.receive_frame() {
                // Updates of the stream's window come with the same updates of the connection's.
                Some((frames::WINDOW_UPDATE, _, more)) => {
                    window += u32::from_be_bytes(more.try_into().expect("it has four bytes")) as usize / 2;
                }
                Some(_) => {}
                None => return,
            }
        }
        window -= chunk.len();
        peer.send(frame(DATA, 0, 1, chunk));
    }
    peer.send(frames::trailers(&[("grpc-status", b"0")]));
    peer.drain();
}

#[test]
fn list_of_too_many_services_is_refused() {
    // Almost a MiB.
    let tiny = list(80_000, |number| format!("{number:x}"));
    let server = server::by_path(move |_| Reply::Message(tiny.clone()));
    let line = format!("error: listing the services of {} failed: ", server.address)
        + "the server lists 80000 services, and 10000 are the most\nhint: ask for each with -service\n";
    bounded([&*server.addr(), "-list", "-exit-codes=detailed"]).run().expect(3, "", &line);
    let ran = bounded([&*server.addr(), "-list", "-output=json", "-exit-codes=detailed"]).run();
    ran.expect_kind(3, "rpc", "rpc-failed");
}

#[test]
fn list_of_ten_thousand_services_is_shown() {
    let services =
        list(10_000, |number| format!("shop.with.a.name.that.takes.its.place.and.more.of.it.v1.Service{number}"));
    let server = server::by_path(move |_| Reply::Message(services.clone()));
    let ran = bounded([&*server.addr(), "-list"]).run();
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.as_str()), (Some(1), 10_001, ""));
    let ran = bounded([&*server.addr(), "-list", "-output=json"]).run();
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.as_str()), (Some(1), 10_000, ""));
}

#[test]
fn lists_of_many_addresses_are_bounded_together() {
    let Some(()) = needs::root() else { return };
    let run = |count: usize, services: usize, name: fn(usize) -> String| {
        let (listener, port) = listener();
        let list = list(services, name);
        let _peer = Peer::on(listener, move |peer, _| send_list(peer, &list));
        let (probe, _files) = bounded_for_each(count, &[&format!("backend:{port}"), "-all-addresses", "-list"]);
        probe.run()
    };
    // Replicas of a large server.
    let ran = run(8, 4000, |number| format!("shop.v1.Service{number}"));
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.as_str()), (Some(1), 32_001, ""));
    // Lists that are allowed, each for itself.
    let ran =
        run(12, 9000, |number| format!("shop.with.a.name.that.takes.its.place.and.more.of.it.v1.Service{number}"));
    let too_long = "with its 9000 services, the lists of all addresses are too long together (";
    assert!(
        ran.code == Some(1) && ran.stdout.lines().count() > 20_000 && ran.stderr.contains(too_long),
        "{}",
        ran.stderr
    );
    // Lists that none may have.
    let ran = run(32, 80_000, |number| format!("{number:x}"));
    assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains("80000 services"), "{ran}");
}

#[test]
fn response_of_the_workload_api_is_bounded() {
    const LARGEST: usize = 4 << 20;
    let files = Files::new();
    let run = |name: &str, response: Vec<u8>| {
        assert!(response.len() <= LARGEST);
        let agent = Agent::new(&files.path(name), Svids::Bytes(response));
        let ran = bounded(["127.0.0.1:1", "-spiffe"]).env("SPIFFE_ENDPOINT_SOCKET", agent.endpoint()).run();
        assert_eq!(ran.code, Some(1), "{ran}");
        ran
    };
    let expect = |ran: &RunResult, cause: &str| assert!(ran.stderr.contains(cause), "{ran}");
    let ran = run("empty", field(1, &[]).repeat(LARGEST / 2));
    expect(&ran, "it sent 2097152 SVIDs and federated bundles, and 10000 are the most");
    let ran = run(
        "federated",
        (0..400_000).flat_map(|number| field(3, &field(1, format!("{number:x}").as_bytes()))).collect(),
    );
    expect(&ran, "it sent 400000 SVIDs and federated bundles, and 10000 are the most");
    // A thousand certificates, each an empty sequence.
    let bundle = field(2, &[0x30, 0].repeat(1000));
    let bundles =
        (0..2000).flat_map(|number| field(3, &[field(1, format!("d{number}").as_bytes()), bundle.clone()].concat()));
    let ran = run("bundles", bundles.chain(field(1, &field(1, b"spiffe://a/b"))).collect());
    expect(&ran, "are not DER, or too many");
}

#[test]
fn directory_of_certificates_with_a_huge_file_is_read() {
    let root = Authority::new("root");
    let tls = server::tls(&root.server(&["localhost"]));
    let files = Files::new();
    let directory = files.path("directory");
    fs::create_dir(&directory).expect("a temporary directory is writable");
    let huge = directory.join("huge");
    fs::File::create(&huge).and_then(|file| file.set_len(100 << 20)).expect("a sparse file");
    let run = || {
        let address = format!("localhost:{}", tls.port());
        bounded([&*address, "-tls"]).env("SSL_CERT_DIR", &directory).run()
    };
    let hint = "hint: give the server's CA with -tls-ca-cert, or mount the system's bundle\n";
    let line = format!(
        "error: no trusted certificates found on this system: {}: it is larger than 1 MiB\n{hint}",
        huge.display()
    );
    run().expect(1, "", &line);
    fs::write(directory.join("root"), &root.pem).expect("a temporary directory is writable");
    run().expect_healthy();
}

#[test]
fn directory_with_too_many_certificates_is_refused() {
    let files = Files::new();
    let directory = files.path("directory");
    fs::create_dir(&directory).expect("a temporary directory is writable");
    for file in 0..10 {
        // Each section is another certificate of 768 bytes, none of which can be parsed.
        let section = |number: usize| {
            let line = format!("{:064}", file * 1000 + number);
            format!("-----BEGIN CERTIFICATE-----\n{}-----END CERTIFICATE-----\n", format!("{line}\n").repeat(16))
        };
        fs::write(directory.join(file.to_string()), (0..900).map(section).collect::<String>()).expect("it is writable");
    }
    let ran = bounded(["127.0.0.1:1", "-tls"]).env("SSL_CERT_DIR", &directory).run();
    let place = directory.display();
    let line = format!("error: the trusted certificates in {place} are larger than 4 MiB together");
    ran.expect(1, "", &format!("{line}\nhint: is it the right directory?\n"));
}

#[test]
fn files_may_have_a_mib() {
    let root = Authority::new("root");
    let leaf = root.server(&["localhost"]);
    let tls = server::tls(&leaf);
    let files = Files::new();
    let fill = |pem: &str| {
        format!("{pem}{}", "# a comment of sixty-four characters, which is in a bundle, too.\n".repeat(15_500))
    };
    let (ca_cert, cert, key) = (fill(&root.pem), fill(&leaf.pem), fill(&leaf.key_pem));
    let flags = [("ca-cert", &ca_cert), ("client-cert", &cert), ("client-key", &key)]
        .map(|(name, content)| format!("-tls-{name}={}", files.write(name, content)));
    let address = format!("localhost:{}", tls.port());
    bounded([&*address, "-tls"].into_iter().chain(flags.iter().map(String::as_str))).run().expect_healthy();
}

/// A watch of many addresses connects to each again. Its connections do not keep the trust anchors.
#[test]
fn connections_of_a_watch_share_the_trust_anchors() {
    const COUNT: usize = 100;
    let Some(()) = needs::root() else { return };
    let (root, other) = (Authority::new("root"), Authority::new("other"));
    let config =
        TlsSetup { leaf: &root.server(&["backend"]), versions: rustls::DEFAULT_VERSIONS, alpn: &["h2"], clients: None }
            .config();
    let (listener, port) = listener();
    let _peer = Peer::on(listener, move |peer, number| {
        let session = ServerConnection::new(config.clone()).expect("the configuration is valid");
        let mut stream = StreamOwned::new(session, peer.stream());
        let begun = serve_watch(&mut stream);
        // The first connection to each address breaks.
        if begun.is_ok() && number >= COUNT {
            peer.drain();
        }
    });
    let arguments = [&format!("backend:{port}"), "-all-addresses", "-watch", "-tls", "-tls-ca-cert=/etc/ca.pem"];
    let (probe, files) = bounded_for_each(COUNT, &arguments);
    files.write("ca.pem", format!("{}{}", root.pem, other.pem.repeat(450)));
    let mut probe = probe.start();
    let (stdout, stderr) = probe.follow();
    for _ in 0..2 * COUNT {
        let line = stdout.next();
        assert!(line.ends_with("status: SERVING"), "{line}");
    }
    probe.signal("-TERM");
    assert_eq!(probe.finish().code, Some(0));
    assert!(stderr.rest().last().is_some_and(|line| line == "stopped by SIGTERM"));
}

/// Reads a request and answers SERVING, without an end.
fn serve_watch(stream: &mut (impl std::io::Read + std::io::Write)) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE.len()])?;
    stream.write_all(&frames::settings(&[]))?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head)?;
        let [a, b, c, kind, flags, ..] = head;
        stream.read_exact(&mut vec![0; u32::from_be_bytes([0, a, b, c]) as usize])?;
        if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
            return stream.write_all(&[ok_headers(), frame(DATA, 0, 1, &answer(1))].concat());
        }
    }
}

/// Reads this many requests, and returns their streams.
fn take_requests(peer: &mut Connection, count: u32) -> impl Iterator<Item = u32> + use<> {
    peer.read_preface();
    peer.send(frames::settings(&[]));
    for _ in 0..count {
        peer.await_request();
    }
    (0..count).map(|number| 2 * number + 1)
}

/// HEADERS with this block, continued in CONTINUATION frames.
fn header_frames(stream: u32, block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = block.chunks(16_000).count();
    for (index, chunk) in block.chunks(16_000).enumerate() {
        let kind = if index == 0 { HEADERS } else { CONTINUATION };
        bytes.extend(frame(kind, if index + 1 == count { END_HEADERS } else { 0 }, stream, chunk));
    }
    bytes
}

/// Probes 500 services. The server answers each with a block of headers, and no more.
fn probe_500_services(block: impl Fn(u32) -> Vec<u8> + Send + Sync + 'static) {
    const COUNT: u32 = 500;
    let peer = Peer::new(move |peer, _| {
        for stream in take_requests(peer, COUNT) {
            peer.send(header_frames(stream, &block(stream)));
        }
        peer.finish();
        peer.drain();
    });
    let services: Vec<String> = (0..COUNT).map(|number| format!("-service=s{number}")).collect();
    let ran = bounded([&*peer.addr(), "-output=json"].into_iter().chain(services.iter().map(String::as_str))).run();
    assert!(ran.code == Some(1) && ran.stdout.contains("\"stream-broken\""), "{ran}");
}

const HEAD: [(&str, &[u8]); 2] = [(":status", b"200"), ("content-type", b"application/grpc")];

#[test]
fn large_headers_of_many_services_are_not_kept() {
    let large = vec![b'a'; 60_000];
    let fields: Vec<(&str, &[u8])> = HEAD.into_iter().chain([("x", large.as_slice())]).collect();
    let block = frames::block(&fields);
    probe_500_services(move |_| block.clone());
}

#[test]
fn many_headers_of_many_services_are_not_kept() {
    let fields: Vec<(&str, &[u8])> = HEAD.into_iter().chain([("x", &b""[..])].repeat(1700)).collect();
    let block = frames::block(&fields);
    probe_500_services(move |_| block.clone());
}

/// The headers of each service take a few bytes (RFC 7541, section 6.1), so that those of many arrive at once.
#[test]
fn compressed_headers_of_many_services_are_not_kept() {
    /// An indexed header, number 62.
    const INDEXED_62: u8 = 0b1011_1110;
    let head = frames::block(&HEAD);
    probe_500_services(move |stream| match stream {
        // With incremental indexing, which gives the header that number.
        1 => [head.as_slice(), &[0x40, 1, b'x', 0]].concat(),
        _ => [head.as_slice(), &[INDEXED_62; 1700]].concat(),
    });
}

#[test]
fn long_messages_of_many_services_are_not_kept() {
    let large = vec![b'a'; 60_000];
    let fields: Vec<(&str, &[u8])> =
        HEAD.into_iter().chain([("grpc-status", &b"2"[..]), ("grpc-message", large.as_slice())]).collect();
    let block = frames::block(&fields);
    probe_500_services(move |_| block.clone());
}
