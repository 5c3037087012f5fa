//! `-list`: prints all services of a server with their statuses.

use tonic_health::ServingStatus::{NotServing, Serving, Unknown};

use crate::support::{
    frames::{self, answer, data, trailers},
    peer::Peer,
    probe::Probe,
    server::{self, ChangingServer, Reply},
};

/// A `HealthListResponse` with these services, in protobuf.
fn list_response(services: &[(&str, u8)]) -> Vec<u8> {
    let length = |bytes: &[u8]| {
        let mut length = bytes.len();
        let mut varint = Vec::new();
        while length >= 128 {
            varint.push(u8::try_from(length % 128 + 128).expect("below 256"));
            length /= 128;
        }
        varint.push(u8::try_from(length).expect("below 128"));
        varint
    };
    let field = |tag: u8, bytes: &[u8]| [&[tag], &length(bytes)[..], bytes].concat();
    let entry =
        |(name, status): &(&str, u8)| field(10, &[field(10, name.as_bytes()), field(18, &[8, *status])].concat());
    services.iter().map(entry).collect::<Vec<_>>().concat()
}

#[test]
fn list_sorts_unhealthy_services_first() {
    let server = ChangingServer::new();
    server.set("shop.v1.Cart", Serving);
    server.set("shop.v1.Payment", NotServing);
    server.set("shop.v1.Stock", Unknown);
    server.set("a", NotServing);
    let table = "SERVICE          STATUS\n\
                 a                NOT_SERVING\n\
                 shop.v1.Payment  NOT_SERVING\n\
                 shop.v1.Stock    UNKNOWN\n\
                 \"\"               SERVING\n\
                 shop.v1.Cart     SERVING\n";
    for flags in [&["-list"][..], &["-list", "-gzip"], &["-list", "-timeout=5s", "-connect-timeout=2s"]] {
        Probe::new([&[server.server.addr().as_str()], flags].concat()).run().expect(1, table, "");
    }
    let ran = Probe::new([&server.server.addr(), "-list", "-exit-codes=detailed", "-output=json"]).run();
    let lines: Vec<serde_json::Value> =
        ran.stdout.lines().map(|line| serde_json::from_str(line).expect("it is JSON")).collect();
    let printed: Vec<_> = lines.iter().map(|line| (line["service"].as_str(), line["healthy"].as_bool())).collect();
    let expected = [
        (Some("a"), Some(false)),
        (Some("shop.v1.Payment"), Some(false)),
        (Some("shop.v1.Stock"), Some(false)),
        (Some(""), Some(true)),
        (Some("shop.v1.Cart"), Some(true)),
    ];
    assert_eq!((ran.code, printed.as_slice()), (Some(4), &expected[..]), "{ran}");
    assert_eq!((&lines[2]["status"], &lines[2]["error"]["kind"]), (&"UNKNOWN".into(), &"status-unknown".into()));
}

#[test]
fn list_is_healthy_only_if_every_service_is() {
    let server = ChangingServer::new();
    server.set("b", Serving);
    Probe::new([&server.server.addr(), "-list"]).run().expect(
        0,
        "SERVICE  STATUS\n\"\"       SERVING\nb        SERVING\n",
        "",
    );
    server.set("b", NotServing);
    let running = Probe::new([&server.server.addr(), "-list", "-wait=20s"]).start();
    server.set("b", Serving);
    let ran = running.finish();
    assert!(ran.code == Some(0) && ran.stdout.ends_with("b        SERVING\n"), "{ran}");
}

#[test]
fn list_shows_100_services_and_explains_the_limit() {
    let server = ChangingServer::new();
    let name = |number| format!("shop.with.a.name.that.takes.its.place.v1.Service{number:02}");
    for number in 1..100 {
        server.set(&name(number), Serving);
    }
    let ran = Probe::new([&server.server.addr(), "-list"]).run();
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.as_str()), (Some(0), 101, ""), "{ran}");
    assert!(ran.stdout.len() > 4096 && ran.stdout.contains(&name(99)), "{ran}");
    let ran = Probe::new([&server.server.addr(), "-list", "-output=json"]).run();
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 100), "{ran}");
    // With one more, the server refuses to list them.
    server.set(&name(100), Serving);
    let address = server.server.address;
    Probe::new([&server.server.addr(), "-list", "-exit-codes=detailed"]).run().expect(
        3,
        "",
        &format!(
            "error: listing the services of {address} failed: RESOURCE_EXHAUSTED: server health list exceeds maximum capacity: 100\n\
             hint: it has more services than it lists (grpc-go: 100), or too many requests; ask for each with -service\n"
        ),
    );
}

#[test]
fn list_unimplemented_fails_with_a_hint() {
    let server = server::plaintext();
    let line = format!("error: listing the services of {} failed: UNIMPLEMENTED", server.address);
    let hint = "hint: this server has the health service, but not its method List; Check works";
    Probe::new([&server.addr(), "-list", "-exit-codes=detailed"]).run().expect(3, "", &format!("{line}\n{hint}\n"));
    let neither = server::by_path(|_| Reply::Status("12", ""));
    let ran = Probe::new([&neither.addr(), "-list", "-output=json"]).run();
    ran.expect_kind(1, "rpc", "unimplemented");
    assert!(ran.json()["error"]["hint"].as_str().unwrap_or_default().contains("does not offer the health service"));
}

#[test]
fn empty_list_is_unhealthy() {
    let server = server::by_path(|_| Reply::Message(Vec::new()));
    let hint = "hint: it has registered none with its health service\n";
    let ran = Probe::new([&server.addr(), "-list", "-exit-codes=detailed"]).run();
    ran.expect(4, "the server lists no services\n", hint);
    Probe::new([&server.addr(), "-list", "-output=json"]).run().expect_kind(1, "health", "nothing-listed");
}

#[test]
fn service_names_are_escaped_and_shortened() {
    let hostile = "a\u{1b}[31m\nSERVICE\u{202e}";
    let long = "x".repeat(10_000);
    let services = list_response(&[(hostile, 2), (&long, 42)]);
    let server = server::by_path(move |_| Reply::Message(services.clone()));
    let ran = Probe::new([&server.addr(), "-list"]).run();
    let lines: Vec<&str> = ran.stdout.lines().collect();
    assert_eq!((ran.code, lines.len()), (Some(1), 3), "{ran}");
    assert!(lines[1].starts_with("a\\u{1b}[31m\\nSERVICE\\u{202e} "), "{ran}");
    assert!(lines[2].ends_with("…  42") && lines[2].len() < 400, "{ran}");
    assert!(lines[1].ends_with("  NOT_SERVING"), "{ran}");
}

#[test]
fn malformed_list_responses_fail() {
    let one = list_response(&[("a", 1)]);
    let whole = frames::message(&one);
    let head = frames::ok_headers;
    let status = || trailers(&[("grpc-status", b"0")]);
    for (name, bytes, kind) in [
        ("two messages", [head(), data(0, &[&whole[..], &whole].concat()), status()].concat(), "malformed-response"),
        ("half a message", [head(), data(0, &whole[..5]), status()].concat(), "malformed-response"),
        ("no status", [head(), data(1, &whole)].concat(), "malformed-response"),
        ("a failing status", [head(), data(0, &whole), trailers(&[("grpc-status", b"2")])].concat(), "rpc-failed"),
        ("more than a MiB", [head(), data(0, &[0, 0, 16, 0, 1])].concat(), "malformed-response"),
        ("no protobuf", [head(), data(0, &frames::message(&[10, 200])), status()].concat(), "malformed-response"),
        ("an answer to Check", [head(), data(0, &answer(1)), status()].concat(), "malformed-response"),
    ] {
        let peer = Peer::new(move |peer, _| {
            peer.take_request();
            peer.send(&bytes);
            peer.drain();
        });
        let ran = Probe::new([&peer.addr(), "-list", "-output=json"]).run();
        assert_eq!((ran.code, ran.json()["error"]["kind"].as_str()), (Some(1), Some(kind)), "{name}: {ran}");
    }
}

#[test]
fn verbose_output_shows_the_list_option() {
    let server = ChangingServer::new();
    let ran = Probe::new([&server.server.addr(), "-list", "-v"]).run();
    let options = format!("> addr={} conn_timeout=1s rpc_timeout=1s list=true", server.server.address);
    assert_eq!(ran.stderr.lines().nth(1), Some(options.as_str()), "{ran}");
}

#[test]
fn unread_results_are_counted_on_stderr() {
    let services: Vec<(String, u8)> = (0..5000).map(|number| (format!("shop.v1.Service{number}"), 1)).collect();
    let services: Vec<(&str, u8)> = services.iter().map(|(name, status)| (name.as_str(), *status)).collect();
    let message = list_response(&services);
    let server = server::by_path(move |_| Reply::Message(message.clone()));
    let ran = Probe::new([&server.addr(), "-list"]).run();
    assert_eq!((ran.code, ran.stdout.lines().count(), ran.stderr.as_str()), (Some(0), 5001, ""));
    let (reader, writer) = std::io::pipe().expect("a pipe can be created");
    let ran = Probe::new([&server.addr(), "-list"]).stdout(writer).run();
    assert!(ran.code == Some(0) && ran.stderr.ends_with(" more results, which nobody has read\n"), "{ran}");
    drop(reader);
}
