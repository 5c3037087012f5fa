//! Tests the resolver against scripted name servers on unprivileged ports.

mod answers;
mod name_server;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Mutex,
    time::Duration,
};

use tokio::{net::UdpSocket, runtime, time::Instant};

use self::name_server::{A, AAAA, V6, server};
use super::{
    exchange_log::{Exchange, Trace, summary},
    is_loopback,
    query::Answer,
    search::resolve,
    settings::Settings,
};
use crate::deadline::Deadline;

fn both() -> Answer {
    Answer::Addresses(vec![V6.into(), [10, 0, 0, 1].into()])
}

fn only_a() -> Answer {
    Answer::Addresses(vec![[10, 0, 0, 1].into()])
}

/// A port where nothing listens.
async fn closed_port() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("loopback has a free port");
    socket.local_addr().expect("it is bound")
}

fn settings(servers: &[SocketAddr], conf: &str) -> Settings {
    let settings = Settings::new(Ok::<_, io::Error>(conf.to_owned()), "host", None, None);
    Settings { servers: servers.to_vec(), without_servers: None, ..settings }
}

/// The result of a lookup. The answer is `None` if the deadline expired.
struct Resolved {
    answer: Option<Answer>,
    exchanges: Vec<Exchange>,
    took: Duration,
}

async fn look_up(servers: &[SocketAddr], conf: &str, name: &str, limit: u64) -> Resolved {
    let started = Instant::now();
    let deadline = Deadline::new(started, Duration::from_millis(limit));
    let trace = Trace::default();
    let answer = deadline.bound(resolve(&settings(servers, conf), name, deadline, &trace)).await.ok();
    Resolved { answer, exchanges: trace.finish(), took: started.elapsed() }
}

fn run(test: impl Future<Output = ()>) {
    let runtime = runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime can be created").block_on(test);
}

/// The script of one message without a delay.
fn at_once(answer: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
    vec![(0, answer)]
}

fn questions(log: &Mutex<Vec<String>>) -> Vec<String> {
    let mut questions = log.lock().expect("the lock is not poisoned").clone();
    questions.sort();
    questions
}

#[test]
fn both_families_are_looked_up_at_the_same_time() {
    run(async {
        let (dns, log) = server(|asked| vec![(400, asked.address())]).await;
        let lookup = look_up(&[dns], "", "api.example.", 5000).await;
        assert_eq!(lookup.answer, Some(both()));
        assert!(lookup.took < Duration::from_millis(750), "{:?}", lookup.took);
        assert_eq!(questions(&log), ["api.example A", "api.example AAAA"]);
    });
}

#[test]
fn silence_for_one_family_does_not_delay_the_other() {
    for silent in [A, AAAA] {
        run(async {
            let (dns, _) =
                server(move |asked| if asked.rtype == silent { Vec::new() } else { at_once(asked.address()) }).await;
            let lookup = look_up(&[dns], "", "api", 5000).await;
            assert!(matches!(lookup.answer, Some(Answer::Addresses(ref it)) if it.len() == 1), "{:?}", lookup.answer);
            assert!(
                (Duration::from_millis(50)..Duration::from_millis(500)).contains(&lookup.took),
                "{:?}",
                lookup.took
            );
        });
    }
}

#[test]
fn addresses_of_the_other_family_count_a_little_later() {
    run(async {
        let (dns, _) = server(|asked| vec![(if asked.rtype == A { 0 } else { 5 }, asked.address())]).await;
        assert_eq!(look_up(&[dns], "", "api", 5000).await.answer, Some(both()));
    });
}

#[test]
fn next_server_is_asked_after_a_failure() {
    run(async {
        let mut failing = vec![closed_port().await];
        for (code, name) in [(1, "FORMERR"), (2, "SERVFAIL"), (4, "NOTIMP"), (5, "REFUSED"), (11, "11")] {
            let (dns, _) = server(move |asked| at_once(asked.answer(code, &[]))).await;
            let failed = look_up(&[dns], "", "api", 5000).await;
            assert_eq!(failed.answer, Some(Answer::Nothing), "{name}");
            assert_eq!(summary(&failed.exchanges), format!("{dns} said {name}"));
            failing.push(dns);
        }
        // Without the question, as from a server that does not understand it.
        let (dns, _) = server(|asked| {
            let mut answer = asked.answer(1, &[])[..12].to_vec();
            answer[5] = 0;
            at_once(answer)
        })
        .await;
        failing.push(dns);
        // A referral to other servers.
        let (dns, _) = server(|asked| {
            let mut answer = asked.answer(0, &[]);
            answer[3] = 0;
            at_once(answer)
        })
        .await;
        failing.push(dns);
        let (good, log) = server(|asked| at_once(asked.address())).await;
        for failing in failing {
            let lookup = look_up(&[failing, good], "", "api", 5000).await;
            assert_eq!(lookup.answer, Some(both()));
            assert!(lookup.took < Duration::from_millis(800), "{:?}", lookup.took);
        }
        assert_eq!(questions(&log).len(), 16);
    });
}

#[test]
fn dead_server_leaves_time_for_the_next() {
    run(async {
        let (dead, dead_log) = server(|_| Vec::new()).await;
        let (good, good_log) = server(|asked| at_once(asked.address())).await;
        let lookup = look_up(&[dead, good], "search a b\noptions ndots:2", "api", 2000).await;
        assert_eq!(lookup.answer, Some(both()));
        assert!(lookup.took < Duration::from_secs(1), "{:?}", lookup.took);
        assert_eq!(questions(&good_log), ["api.a A", "api.a AAAA"]);
        assert_eq!(questions(&dead_log), ["api.a A", "api.a AAAA"]);
    });
    // The server that answered is asked first for the next name.
    run(async {
        let (dead, dead_log) = server(|_| Vec::new()).await;
        let (good, _) = server(|asked| at_once(asked.answer(3, &[]))).await;
        let lookup = look_up(&[dead, good], "search a b", "api", 1000).await;
        assert_eq!(lookup.answer, Some(Answer::NoSuchName));
        assert_eq!(questions(&dead_log), ["api.a A", "api.a AAAA"]);
    });
}

#[test]
fn lost_datagram_is_sent_again() {
    run(async {
        let lost = Mutex::new(0);
        let (dns, _) = server(move |asked| {
            let mut lost = lost.lock().expect("the lock is not poisoned");
            *lost += 1;
            if *lost <= 2 { Vec::new() } else { at_once(asked.address()) }
        })
        .await;
        let lookup = look_up(&[dns], "", "api", 1000).await;
        assert_eq!(lookup.answer, Some(both()));
        assert!(lookup.took < Duration::from_millis(800), "{:?}", lookup.took);
    });
}

#[test]
fn late_answer_counts() {
    run(async {
        let (late, _) = server(|asked| vec![(2000, asked.address())]).await;
        let (dead, _) = server(|_| Vec::new()).await;
        assert_eq!(look_up(&[late, dead], "", "api", 3000).await.answer, Some(both()));
    });
}

#[test]
fn attempts_and_timeout_end_the_lookup_before_the_deadline() {
    run(async {
        let (dead, log) = server(|_| Vec::new()).await;
        let lookup = look_up(&[dead], "options attempts:1 timeout:1", "api", 60_000).await;
        assert_eq!(lookup.answer, Some(Answer::Nothing));
        assert!((Duration::from_millis(990)..Duration::from_millis(1500)).contains(&lookup.took));
        assert_eq!(summary(&lookup.exchanges), format!("{dead} did not answer"));
        assert_eq!(questions(&log), ["api A", "api AAAA"]);
    });
}

#[test]
fn deadline_keeps_the_exchanges_so_far() {
    run(async {
        let (failing, _) = server(|asked| at_once(asked.answer(2, &[]))).await;
        let (dead, _) = server(|_| Vec::new()).await;
        let (half, _) = server(|asked| if asked.rtype == A { at_once(asked.answer(0, &[])) } else { Vec::new() }).await;
        let gone = closed_port().await;
        let late = look_up(&[failing, dead, gone], "", "api", 300).await;
        assert_eq!(late.answer, None);
        assert!((Duration::from_millis(300)..Duration::from_millis(800)).contains(&late.took));
        let text = format!("{failing} said SERVFAIL; {dead} did not answer; {gone} refused the connection");
        assert_eq!(summary(&late.exchanges), text);
        let half_answered = look_up(&[half], "", "api", 300).await;
        assert_eq!(summary(&half_answered.exchanges), format!("{half} did not answer for AAAA"));
    });
}

#[test]
fn search_continues_after_failures_and_missing_names() {
    run(async {
        let (dns, log) = server(|asked| {
            at_once(match asked.name.as_str() {
                "api.a" => asked.answer(3, &[]),
                "api.b" => asked.answer(0, &[]),
                "api.c" => asked.answer(2, &[]),
                "api.d" => asked.address(),
                _ => unreachable!("nobody asks for {}", asked.name),
            })
        })
        .await;
        assert_eq!(look_up(&[dns], "search a b c d e", "api", 5000).await.answer, Some(both()));
        assert_eq!(questions(&log).len(), 8);
    });
    run(async {
        let (dns, _) = server(|asked| at_once(asked.answer(if asked.name == "api.a" { 2 } else { 3 }, &[]))).await;
        // The name may exist in the domain for which the server failed.
        assert_eq!(look_up(&[dns], "search a b", "api", 5000).await.answer, Some(Answer::Nothing));
        assert_eq!(look_up(&[dns], "search b", "api", 5000).await.answer, Some(Answer::NoSuchName));
        let (dns, _) = server(|asked| at_once(asked.answer(if asked.name == "api.a" { 0 } else { 3 }, &[]))).await;
        assert_eq!(look_up(&[dns], "search a b", "api", 5000).await.answer, Some(Answer::NoAddress));
    });
}

#[test]
fn nxdomain_for_one_type_waits_for_the_other() {
    // Some servers answer so because they do not support AAAA.
    run(async {
        let (dns, _) =
            server(|asked| if asked.rtype == A { vec![(100, asked.address())] } else { at_once(asked.answer(3, &[])) })
                .await;
        assert_eq!(look_up(&[dns], "", "api", 1000).await.answer, Some(only_a()));
    });
    // The server ignores the other type, so NXDOMAIN counts.
    run(async {
        let (dns, _) = server(|asked| if asked.rtype == A { at_once(asked.answer(3, &[])) } else { Vec::new() }).await;
        assert_eq!(look_up(&[dns], "", "api", 1000).await.answer, Some(Answer::NoSuchName));
    });
}

#[test]
fn names_in_localhost_are_loopback_and_addresses_are_sorted() {
    for name in ["localhost", "LocalHost.", "app.localhost", "a.b.localhost."] {
        assert!(is_loopback(name), "{name}");
    }
    for name in ["localhost.example", "notlocalhost", "localhost.localdomain", ""] {
        assert!(!is_loopback(name), "{name}");
    }
    let order = Answer::addresses(&[[10, 0, 0, 2].into(), IpAddr::V6(V6), [10, 0, 0, 1].into(), [10, 0, 0, 2].into()]);
    assert_eq!(order, Answer::Addresses(vec![V6.into(), [10, 0, 0, 2].into(), [10, 0, 0, 1].into()]));
}
