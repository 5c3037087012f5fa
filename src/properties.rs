//! What must hold whatever the program is given. The fuzz targets (`fuzz/`) run these checks on bytes that libFuzzer finds, the
//! tests below on random bytes.

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

/// Arguments, one on each line, are understood or refused as usage; a duration that is understood is written so that
/// it is understood again.
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
        Ok(Request::Probe(options)) => match understand(&options) {
            Ok(()) => return,
            Err(failure) => failure,
        },
        Err(refusal) => refusal.failure,
    };
    assert_eq!(failure.kind, Kind::Usage);
    let shown = printable(&failure.message, 1000);
    assert!(!shown.contains(char::is_control) && shown.len() < 1100);
}

fn understand(options: &Options) -> Result<(), Failure> {
    config::style(options)?;
    let _ = config::describe(&config::plan(options)?);
    Ok(())
}

/// A target is understood or refused. If it is understood, its authority can be sent and its server name is not empty.
pub fn target(bytes: &[u8]) {
    if let Ok(target) = Target::parse(&String::from_utf8_lossy(bytes)) {
        assert!(target.authority.parse::<http::uri::Authority>().is_ok(), "{target:?}");
        assert!(!target.server_name().is_empty(), "{target:?}");
    }
}

/// A PEM file is read or refused, each in the words of its kind.
pub fn pem(bytes: &[u8]) {
    let file = PemFile::of(bytes);
    match file.certificates() {
        Ok((certificates, broken)) => {
            assert!(!certificates.is_empty());
            // The quick way to a few of many finds those that the thorough way finds.
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

/// A message that claims to come from a name server is read without a panic, and believed only if it is an answer;
/// `/etc/hosts` and `/etc/resolv.conf` are read whatever they hold.
#[cfg(unix)]
pub fn dns(bytes: &[u8]) {
    crate::resolver::read_anything(bytes);
}

/// A plain check.
const CHECK: &str = "-watch=false";

/// Whatever a server sends, the probe ends within its deadlines, and is healthy only if the bytes are a whole answer with the
/// status 0.
pub fn answer(bytes: &[u8]) {
    for asks in [CHECK, "-list"] {
        if is_healthy(bytes, asks) {
            assert!(can_be_healthy(bytes, asks == CHECK), "healthy by {bytes:02x?}");
        }
    }
    // The first status of a watch comes before the end of the answer.
    is_healthy(bytes, "-watch");
}

/// Probes a server that sends these bytes, in memory, on a clock that does not wait.
fn is_healthy(bytes: &[u8], asks: &str) -> bool {
    let runtime = runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime can be made").block_on(async {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let bytes = bytes.to_vec();
        tokio::spawn(async move {
            // The answer waits for the preface and for the request, as a server's would.
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
mod random_input;
