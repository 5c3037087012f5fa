//! The way from a configuration to verdicts: connect, ask, and ask again where the rules allow it.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tonic::metadata::MetadataMap;

use crate::{
    config::Config,
    connect::{connect, listens_elsewhere},
    deadline::Deadline,
    http2::{self, Connection},
    journal::Journal,
    metadata,
    outcome::{Failure, Kind, Phase, Probed, Retry, Verdict},
    rpc::{Answer, Asked, Caller},
    tls,
};

/// How long to wait for a server to show what it speaks instead.
const SECOND_LOOK: Duration = Duration::from_millis(200);
/// How long to look for a server on this machine's other addresses.
const LOOK_AROUND: Duration = Duration::from_millis(50);
/// Pauses between attempts to connect: the first, and what they grow to.
const PAUSES: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Probes once. `overall` bounds it besides its own time-outs, which begin with `start`.
pub(crate) async fn probe(config: &Config, start: Instant, overall: Option<Deadline>, journal: &Journal) -> Probed {
    let deadline = Deadline::new(start, config.connect_timeout).or_earlier(overall);
    journal.begin_probe();
    let verdicts = match Prepared::load(config, deadline, journal).await {
        Ok(prepared) => ask(config, &prepared, deadline, overall, journal).await,
        Err(failure) => Err(failure),
    };
    Probed { address: None, verdicts, record: Some(journal.record()), took: start.elapsed() }
}

/// What connections and requests need, from files where it is in files.
#[derive(Debug)]
pub(crate) struct Prepared {
    tls: Option<tls::Client>,
    metadata: MetadataMap,
}

impl Prepared {
    /// # Errors
    /// Those of the phases usage and spiffe.
    pub(crate) async fn load(config: &Config, deadline: Deadline, journal: &Journal) -> Result<Self, Failure> {
        let tls = match &config.tls {
            Some(tls) => Some(tls::Client::load(config, tls, deadline, journal).await?),
            None => None,
        };
        let metadata = metadata::complete(&config.metadata, &config.metadata_files, deadline).await?;
        Ok(Self { tls, metadata })
    }

    /// The same for another connection at the same time.
    pub(crate) fn another(&self) -> Self {
        Self { tls: self.tls.as_ref().map(tls::Client::another), metadata: self.metadata.clone() }
    }

    /// Connects.
    ///
    /// # Errors
    /// Those of the phases resolve to http2.
    pub(crate) async fn connect(
        &self,
        config: &Config,
        deadline: Deadline,
        journal: &Journal,
    ) -> Result<Connection, Failure> {
        connect_patiently(config, self.tls.as_ref(), deadline, journal).await
    }

    /// Who makes requests on a connection.
    pub(crate) fn caller<'a>(&'a self, config: &'a Config, connection: &'a Connection) -> Caller<'a> {
        Caller { connection, config, metadata: &self.metadata }
    }

    /// A failure of a request, or what the connection knows to be its cause: a server that refuses our certificate may
    /// do so only now.
    pub(crate) fn true_cause(&self, config: &Config, connection: &Connection, failure: Failure) -> Failure {
        match failure.kind {
            Kind::StreamBroken => connection.late_alert(config, self.tls.as_ref()).unwrap_or(failure),
            _ => failure,
        }
    }
}

/// Connects by `deadline` and asks: a verdict for each service, in their order.
///
/// # Errors
/// What kept the probe from asking at all, or from learning which services there are.
pub(crate) async fn ask(
    config: &Config,
    prepared: &Prepared,
    deadline: Deadline,
    overall: Option<Deadline>,
    journal: &Journal,
) -> Result<Vec<Verdict>, Failure> {
    let mut connection = prepared.connect(config, deadline, journal).await?;
    let deadline = Deadline::new(Instant::now(), config.rpc_timeout).or_earlier(overall);
    let asked = Asked::by(&config.question);
    let mut answers = prepared.caller(config, &connection).ask(&asked, deadline, journal).await;

    let is_left_out = |answer: &Answer| matches!(answer, Err(failure) if failure.retry == Retry::OnceMore);
    let left_out: Vec<usize> = (0..answers.len()).filter(|index| is_left_out(&answers[*index])).collect();
    if !left_out.is_empty() {
        journal.note(Phase::Rpc, || "the server did not take the request; once more".to_owned());
        let connect_deadline = Deadline::new(Instant::now(), config.connect_timeout).or_earlier(Some(deadline));
        if let Ok(second) = open(config, prepared.tls.as_ref(), connect_deadline, journal).await {
            connection = second;
            let asked: Vec<Asked<'_>> = left_out.iter().map(|index| asked[*index]).collect();
            let again = prepared.caller(config, &connection).ask(&asked, deadline, journal).await;
            left_out.into_iter().zip(again).for_each(|(index, answer)| answers[index] = answer);
        }
    }
    let mut verdicts = Vec::new();
    for (asked, answer) in asked.into_iter().zip(answers) {
        let answer = answer.map_err(|failure| prepared.true_cause(config, &connection, failure));
        match (asked, answer) {
            (_, Ok(statuses)) => {
                verdicts.extend(statuses.into_iter().map(|(service, status)| Verdict::of(service, Ok(status))));
            }
            (Asked::Service(service), Err(failure)) => {
                verdicts.push(Verdict::of(service.to_owned(), Err(failure)));
            }
            (Asked::All, Err(failure)) => {
                connection.close().await;
                return Err(failure);
            }
        }
    }
    connection.close().await;
    Ok(verdicts)
}

/// Looks around once where the last probe was refused, and tells what that shows.
pub(crate) async fn explain(config: &Config, failure: &mut Failure) {
    if failure.kind == Kind::ConnectionRefused
        && let Some(hint) = listens_elsewhere(config, Deadline::new(Instant::now(), LOOK_AROUND)).await
    {
        failure.hint = Some(hint);
    }
}

/// Connects; where the user chose the time for it, again until it is over while the server may be about to come up.
pub(crate) async fn connect_patiently(
    config: &Config,
    tls: Option<&tls::Client>,
    deadline: Deadline,
    journal: &Journal,
) -> Result<Connection, Failure> {
    let (mut pause, longest) = PAUSES;
    let mut attempts = 0;
    let mut has_looked = false;
    let mut last: Option<Failure> = None;
    loop {
        let mut failure = match open(config, tls, deadline, journal).await {
            Ok(connection) => return Ok(connection),
            Err(failure) => failure,
        };
        attempts += 1;
        let is_over = deadline.remaining().is_zero();
        if failure.retry == Retry::WhileConnecting && !has_looked {
            has_looked = matches!(failure.kind, Kind::ClosedEarly | Kind::TlsFailed);
            failure = second_look(config, failure, deadline).await;
        }
        if is_over && let Some(last) = last {
            // Cut off by the deadline, an attempt that came no further than the one before tells less.
            if failure.kind.phase() <= last.kind.phase() {
                failure = last;
            }
            failure.message += &format!(" ({attempts} attempts in {})", deadline.limit());
            return Err(failure);
        }
        if is_over || failure.retry != Retry::WhileConnecting || !config.keep_trying {
            return Err(failure);
        }
        last = Some(failure);
        sleep(pause.min(deadline.remaining())).await;
        pause = (pause * 2).min(longest);
    }
}

/// Opens one connection.
async fn open(
    config: &Config,
    tls: Option<&tls::Client>,
    deadline: Deadline,
    journal: &Journal,
) -> Result<Connection, Failure> {
    journal.begin_attempt();
    let mut stream = connect(config, deadline, journal).await?;
    if let Some(tls) = tls {
        stream = tls.handshake(stream, config, deadline, journal).await?;
    }
    Connection::open(stream, config, tls, deadline, journal).await
}

/// Many servers close without a word when TLS meets plaintext. Whether that is the cause is seen on a second
/// connection, begun the other way, and soon.
async fn second_look(config: &Config, failure: Failure, deadline: Deadline) -> Failure {
    let address = &config.address;
    let deadline = Deadline::new(Instant::now(), SECOND_LOOK).or_earlier(Some(deadline));
    match failure.kind {
        Kind::ClosedEarly if config.tls.is_none() && tls::speaks_tls(config, deadline).await => {
            let message = format!("no HTTP/2 from {address}: the server closes plaintext connections and answers TLS");
            Failure::new(Kind::ServerSpeaksTls, message).hint("add -tls")
        }
        Kind::TlsFailed if http2::speaks_plaintext(config, deadline).await => {
            let message = format!(
                "TLS handshake with {address} failed: the server does not speak TLS: it closes TLS connections and \
                 answers HTTP/2 in plaintext"
            );
            Failure::new(Kind::TlsPlaintextServer, message).hint(format!("leave out {}", config.tls_flag()))
        }
        _ => failure,
    }
}
