//! The steps of one probe: prepare, connect, send the request, judge the answer.

use std::{rc::Rc, time::Duration};

use tokio::time::{Instant, sleep};

use super::plan::{Alts, Credentials, Plan, Security as Wanted, Tls};
use crate::{
    alts,
    backoff::Backoff,
    connection::{Connection, Connector, Security},
    deadline::Deadline,
    handshaker::Handshaker,
    http2::Purpose,
    net::Target,
    outcome::{Failure, NonEmpty, Phase, ProbeResult, Retry, Verdict},
    rpc::{Answer, Ask, Caller, Metadata, Question},
    spiffe, tls,
    trace::Trace,
};

/// The first pause between requests that a server did not process. The second request follows the first at once.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest of those pauses.
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How long the Workload API has for its answer while our last identity is still valid.
const RENEWAL_TIMEOUT: Duration = Duration::from_millis(500);

/// Probes once. `overall` bounds it besides its own time-outs, which begin with `start`.
pub(super) async fn probe(plan: &Plan, start: Instant, overall: Option<Deadline>, trace: &Trace) -> ProbeResult {
    let deadline = Deadline::new(start, plan.connect_timeout).or_earlier(overall);
    trace.begin_probe();
    let verdicts = match Prepared::load(plan, deadline, trace).await {
        Ok(prepared) => ask(plan, &plan.target, &prepared, deadline, overall, trace).await,
        Err(failure) => Err(failure),
    };
    ProbeResult { address: None, verdicts, record: Some(trace.record()), took: start.elapsed() }
}

/// What connections and requests need, loaded once: from files, and from the Workload API.
#[derive(Debug)]
pub(super) struct Prepared {
    security: Security,
    metadata: Metadata,
}

impl Prepared {
    /// # Errors
    /// Those of the phases usage and spiffe.
    pub(super) async fn load(plan: &Plan, deadline: Deadline, trace: &Trace) -> Result<Self, Failure> {
        let security = match &plan.security {
            Wanted::Plaintext => Security::Plaintext,
            Wanted::Tls(Tls { credentials: Credentials::Files(files), server_name, needs_alpn, given_by }) => {
                let client = tls::Client::from_files(files, server_name.clone(), deadline, trace).await?;
                Security::Tls(client.needs_alpn(*needs_alpn).given_by(given_by))
            }
            Wanted::Tls(Tls { credentials: Credentials::Spiffe(expected), server_name, given_by, .. }) => {
                let client =
                    spiffe::tls_client(expected.as_ref(), server_name.clone(), plan.keeps_trying, deadline, trace);
                Security::Tls(Box::pin(client).await?.given_by(given_by))
            }
            Wanted::Alts(Alts { handshaker, target_name, given_by }) => {
                let handshaker = Rc::new(Handshaker::new(handshaker.clone()));
                Security::Alts(alts::Client::new(handshaker, target_name, given_by))
            }
        };
        let metadata = plan.metadata.with_files(&plan.metadata_files, deadline).await?;
        Ok(Self { security, metadata })
    }

    /// Loads everything again, as it may have changed. While the Workload API is away, an identity that it gave before is used
    /// as long as it is valid.
    ///
    /// # Errors
    /// Those of [`Prepared::load`].
    pub(super) async fn load_again(&self, plan: &Plan, deadline: Deadline, trace: &Trace) -> Result<Self, Failure> {
        let (Wanted::Tls(Tls { credentials: Credentials::Spiffe(expected), server_name, .. }), Security::Tls(last)) =
            (&plan.security, &self.security)
        else {
            return Self::load(plan, deadline, trace).await;
        };
        let Some(until) = last.identity_expires().filter(|until| *until > tls::now()) else {
            return Self::load(plan, deadline, trace).await;
        };
        let limit = RENEWAL_TIMEOUT.min(plan.connect_timeout / 2);
        let soon = Deadline::new(Instant::now(), limit).or_earlier(Some(deadline));
        let client = spiffe::tls_client(expected.as_ref(), server_name.clone(), false, soon, trace);
        let tls = match Box::pin(client).await {
            Err(failure) if spiffe::is_away(&failure) => {
                trace.note(Phase::Spiffe, || {
                    format!("{failure}; using the last SVID again, which is valid until {}", tls::date_time(until))
                });
                last.clone()
            }
            renewed => renewed?,
        };
        let metadata = plan.metadata.with_files(&plan.metadata_files, deadline).await?;
        Ok(Self { security: Security::Tls(tls), metadata })
    }

    /// What a connection that is open still needs: everything but the trust anchors, which may be large.
    pub(super) fn for_open_connection(&self) -> Self {
        let security = match &self.security {
            Security::Plaintext => Security::Plaintext,
            Security::Tls(tls) => Security::Tls(tls.after_handshake()),
            Security::Alts(alts) => Security::Alts(alts.clone()),
        };
        Self { security, metadata: self.metadata.clone() }
    }

    /// How to secure connections.
    pub(super) fn into_security(self) -> Security {
        self.security
    }

    /// How to connect to `target`, which is the plan's or one of its addresses.
    pub(super) fn connector<'a>(&'a self, plan: &Plan, target: &'a Target) -> Connector<'a> {
        let purpose = match &plan.question {
            Question::Watch(_) => Purpose::Watch,
            question => Purpose::Requests(question.services().len()),
        };
        Connector { target, security: &self.security, purpose, keeps_trying: plan.keeps_trying }
    }

    /// How to make requests on a connection.
    pub(super) fn caller<'a>(&'a self, plan: &'a Plan, target: &'a Target, connection: &'a Connection) -> Caller<'a> {
        Caller { connection: &connection.http2, target: &target.address, settings: &plan.rpc, metadata: &self.metadata }
    }
}

/// Connects by `deadline` and sends the requests. Returns a verdict for each service, in order.
///
/// # Errors
/// The probe could not send a request, or could not list the services.
pub(super) async fn ask(
    plan: &Plan,
    target: &Target,
    prepared: &Prepared,
    deadline: Deadline,
    overall: Option<Deadline>,
    trace: &Trace,
) -> Result<NonEmpty<Verdict>, Failure> {
    let connector = prepared.connector(plan, target);
    let mut connection = connector.connect(deadline, trace).await?;
    let deadline = Deadline::new(Instant::now(), plan.rpc.rpc_timeout).or_earlier(overall);
    let requests = plan.question.requests();
    let mut answers: Vec<Answer> = Vec::new();
    let mut unanswered: Vec<usize> = (0..requests.len()).collect();
    let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
    let mut attempts = 0;
    loop {
        attempts += 1;
        let asked: Vec<Ask<'_>> = unanswered.iter().map(|index| requests[*index]).collect();
        let new = prepared.caller(plan, target, &connection).ask(&asked, deadline, trace).await;
        // What ended this connection is not the cause of what fails on another.
        let new = new.into_iter().map(|answer| answer.map_err(|failure| connector.cause_of(failure, &connection)));
        if answers.is_empty() {
            answers = new.collect();
        } else {
            unanswered.iter().zip(new).for_each(|(index, answer)| answers[*index] = answer);
        }
        unanswered.retain(|index| answers[*index].as_ref().is_err_and(|failure| is_to_retry(failure, attempts)));
        if unanswered.is_empty() {
            break;
        }
        if attempts > 1 {
            sleep(backoff.pause().min(deadline.remaining())).await;
        }
        if deadline.remaining().is_zero() {
            break;
        }
        trace.note(Phase::Rpc, || "the server did not process the request; retrying on a new connection".to_owned());
        let connect_deadline = Deadline::new(Instant::now(), plan.connect_timeout).or_earlier(Some(deadline));
        let Ok(next) = connector.connect_once(connect_deadline, trace).await else { break };
        connection = next;
    }
    if attempts > 1 {
        for index in unanswered {
            if let Err(failure) = &mut answers[index] {
                failure.message += &format!(" ({attempts} attempts in {})", deadline.limit());
            }
        }
    }
    let verdicts = judge(plan.alive, &requests, answers.into_iter());
    connection.http2.close().await;
    verdicts
}

/// Whether to ask again what failed so after this many attempts.
fn is_to_retry(failure: &Failure, attempts: usize) -> bool {
    match failure.retry {
        Retry::UntilDeadline => true,
        Retry::OnNewConnection => attempts == 1,
        Retry::Never | Retry::WhileConnecting | Retry::OnSameConnection | Retry::AfterGoAway => false,
    }
}

/// The verdicts on the answers to these requests. `alive` says whether any answer is enough.
///
/// # Errors
/// The services could not be listed.
fn judge(
    alive: bool,
    requests: &[Ask<'_>],
    answers: impl Iterator<Item = Answer>,
) -> Result<NonEmpty<Verdict>, Failure> {
    let verdict = if alive { Verdict::of_life } else { Verdict::new };
    let mut verdicts = Vec::new();
    for (request, answer) in requests.iter().zip(answers) {
        match (request, answer) {
            (Ask::Check(_), Ok(statuses)) => {
                verdicts.extend(statuses.into_iter().map(|(service, status)| verdict(service, Ok(status))));
            }
            (Ask::List, Ok(statuses)) => {
                verdicts.extend(Verdict::of_list(statuses));
            }
            (Ask::Check(service), Err(failure)) => {
                verdicts.push(verdict((*service).to_owned(), Err(failure)));
            }
            (Ask::List, Err(failure)) => return Err(failure),
        }
    }
    Ok(NonEmpty::new(verdicts).expect("each question has a request, and each answer a status or a failure"))
}
