//! Properties that must hold for every input. The fuzz targets (`fuzz/`) check them with inputs from libFuzzer, the tests below
//! with random input.

use std::{ffi::OsString, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    runtime,
    time::Instant,
};

use self::oracle::{can_be_healthy, first_frame};
use crate::{
    cli::{self, Request},
    config::{self, Options},
    deadline::Deadline,
    duration::{format_duration, parse_duration},
    http2::{Connection, Purpose},
    net::Target,
    outcome::{Failure, Health, Kind, NonEmpty, Verdict},
    rpc::{Caller, Question},
    text::printable,
    tls::{PemFile, describe},
    trace::Trace,
};

/// Arguments, one per line, are accepted or refused as a usage error. A duration that is parsed and formatted parses to the
/// same value again.
pub fn arguments(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(nanos) = parse_duration(&text)
        && let Ok(nanos) = u64::try_from(nanos)
    {
        let written = format_duration(Duration::from_nanos(nanos));
        assert_eq!(parse_duration(&written).ok(), i64::try_from(nanos).ok(), "{text:?} as {written:?}");
    }
    let failure = match cli::parse(text.lines().map(OsString::from)) {
        Ok(Request::Print(_)) => return,
        Ok(Request::Probe(options)) => match plan_and_describe(&options) {
            Ok(()) => return,
            Err(failure) => failure,
        },
        Err(refusal) => refusal.failure,
    };
    assert_eq!(failure.kind, Kind::Usage);
    let shown = printable(&failure.message, 1000);
    assert!(!shown.contains(char::is_control) && shown.len() < 1100);
}

fn plan_and_describe(options: &Options) -> Result<(), Failure> {
    config::style(options)?;
    let _ = config::describe(&config::plan(options)?);
    Ok(())
}

/// A target is accepted or refused. If it is accepted, its authority is valid and its server name is not empty.
pub fn target(bytes: &[u8]) {
    if let Ok(target) = Target::parse(&String::from_utf8_lossy(bytes)) {
        assert!(target.authority.parse::<http::uri::Authority>().is_ok(), "{target:?}");
        assert!(!target.server_name().is_empty(), "{target:?}");
    }
}

/// A PEM file is parsed, or refused with the kind that belongs to certificates or keys.
pub fn pem(bytes: &[u8]) {
    let file = PemFile::of(bytes);
    match file.certificates() {
        Ok((certificates, broken)) => {
            assert!(!certificates.is_empty());
            // The quick search for a few certificates finds the same ones as the full parser.
            let found = file.certificates_where(|_| true);
            let mut usable =
                certificates.iter().filter(|certificate| webpki::anchor_from_trusted_cert(certificate).is_ok());
            assert!(broken > 0 || usable.all(|certificate| found.contains(certificate)));
            for certificate in &certificates {
                describe(certificate);
            }
        }
        Err(failure) => assert_eq!(failure.kind, Kind::CertificateInvalid),
    }
    if let Err(failure) = file.private_key() {
        assert!(matches!(failure.kind, Kind::KeyInvalid | Kind::KeyEncrypted));
    }
}

/// A DNS message is parsed without a panic, and accepted only if it answers the query. `/etc/hosts` and `/etc/resolv.conf` are
/// parsed whatever they contain.
#[cfg(unix)]
pub fn dns(bytes: &[u8]) {
    crate::resolver::read_anything(bytes);
}

/// The argument for a plain `Check`.
const CHECK: &str = "-watch=false";

/// Whatever a server sends, the probe ends within its deadlines, and is healthy only if the bytes are a whole answer with the
/// status 0.
pub fn answer(bytes: &[u8]) {
    for asks in [CHECK, "-list"] {
        if is_healthy(bytes, asks) {
            assert!(can_be_healthy(bytes, asks == CHECK), "healthy by {bytes:02x?}");
        }
    }
    // A watch may be healthy before the answer is complete.
    is_healthy(bytes, "-watch");
}

/// Probes a server in memory that sends these bytes, with tokio's paused clock.
fn is_healthy(bytes: &[u8], asks: &str) -> bool {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            // As a server does, waits for the preface and for the request.
            let mut received = vec![0; 24];
            let _ = theirs.read_exact(&mut received).await;
            let settings = bytes.get(..first_frame(&bytes)).unwrap_or(&bytes);
            let _ = theirs.write_all(settings).await;
            let mut more = [0; 4096];
            while let Ok(count @ 1..) = theirs.read(&mut more).await {
                received.extend_from_slice(&more[..count]);
                if received.windows(6).any(|window| window == [0, 1, 0, 0, 0, 1]) {
                    break;
                }
            }
            let _ = theirs.write_all(&bytes[settings.len()..]).await;
            let _ = theirs.shutdown().await;
            let _ = theirs.read_to_end(&mut received).await;
        });
        let Ok(Request::Probe(options)) = cli::parse(["-addr=:1", "-gzip", asks].map(OsString::from)) else {
            unreachable!("these are valid arguments")
        };
        let plan = config::plan(&options).expect("these are valid arguments");
        let trace = Trace::unfollowed();
        let start = Instant::now();
        let deadline = Deadline::new(start, plan.connect_timeout);
        let purpose = match &plan.question {
            Question::Watch(_) => Purpose::Watch,
            _ => Purpose::Requests(1),
        };
        let target = plan.address();
        let Ok(connection) = Connection::open(Box::new(ours), target, false, purpose, deadline, &trace).await else {
            return false;
        };
        let deadline = Deadline::new(Instant::now(), plan.rpc.rpc_timeout);
        let caller = Caller { connection: &connection, target, settings: &plan.rpc, metadata: &plan.metadata };
        let statuses: Vec<i32> = match &plan.question {
            Question::Watch(service) => match caller.watch(service, deadline).await {
                Ok((first, mut updates)) => {
                    let next = deadline.bound(caller.next(&mut updates)).await;
                    [Some(first), next.ok().and_then(Result::ok)].into_iter().flatten().collect()
                }
                Err(_) => Vec::new(),
            },
            question => {
                let answers = caller.ask(&question.requests(), deadline, &trace).await;
                answers.into_iter().flatten().flatten().map(|(_, status)| status).collect()
            }
        };
        connection.close().await;
        assert!(start.elapsed() <= plan.connect_timeout + plan.rpc.rpc_timeout + Duration::from_millis(100));
        let verdicts = statuses.into_iter().map(|status| Verdict::new(String::new(), Ok(status)));
        NonEmpty::new(verdicts.collect())
            .is_some_and(|verdicts| verdicts.iter().all(|verdict| verdict.health() == Health::Healthy))
    })
}

mod oracle;
#[cfg(test)]
mod printed_health;
#[cfg(test)]
mod random_input;
