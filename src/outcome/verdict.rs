//! The verdict on one service. This is the only file that decides what is healthy.

use std::{collections::BTreeMap, rc::Rc};

use tonic::Code;
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    failure::Failure,
    kind::{Kind, Phase},
};

/// Whether a service, a peer or a whole probe is healthy. Exit code 0 and JSON's `healthy` come from this value alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// Every verdict is healthy, and there is at least one.
    Healthy,
    /// The phase that failed; of several, the earliest.
    Unhealthy(Phase),
}

impl Health {
    /// Both together: healthy only if both are.
    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Healthy, other) => other,
            (Self::Unhealthy(phase), Self::Healthy) => Self::Unhealthy(phase),
            (Self::Unhealthy(one), Self::Unhealthy(other)) => Self::Unhealthy(one.min(other)),
        }
    }
}

/// The result of the check of one service. There may be thousands, so it is small where all is well.
#[derive(Debug, Clone)]
pub(crate) struct Verdict {
    service: Box<str>,
    judgement: Judgement,
    /// Whether the server is alive, if that decides: `-alive`.
    alive: Option<bool>,
}

#[derive(Debug, Clone)]
enum Judgement {
    /// A complete answer with the status SERVING.
    Healthy,
    /// A complete answer with another status: its name in the protocol, or its number if it has none.
    Unhealthy(Rc<Unhealthy>),
    /// No complete answer.
    Unanswered(Box<Failure>),
}

#[derive(Debug, Clone)]
struct Unhealthy {
    status: String,
    failure: Failure,
}

impl Verdict {
    /// Judges the answer about a service: a status, or why there is none. This is the only place that decides what is healthy,
    /// unless the user asks for life alone.
    pub(crate) fn new(service: String, answer: Result<i32, Failure>) -> Self {
        let judgement = match answer {
            Ok(status) => match ServingStatus::try_from(status) {
                Ok(ServingStatus::Serving) => Judgement::Healthy,
                Ok(ServingStatus::NotServing) => Judgement::unhealthy(status, Kind::NotServing),
                Ok(ServingStatus::Unknown) => Judgement::unhealthy(status, Kind::StatusUnknown),
                Ok(ServingStatus::ServiceUnknown) => Judgement::unhealthy(status, Kind::ServiceUnknownStatus),
                Err(_) => Judgement::unhealthy(status, Kind::StatusUnrecognised),
            },
            Err(failure) => Judgement::Unanswered(Box::new(failure)),
        };
        Self { service: service.into(), judgement, alive: None }
    }

    /// Judges the same answer by whether it is one at all, `-alive`: any status, or an error that only a working server gives.
    /// An error that the probe or HTTP made up is no answer.
    pub(crate) fn of_life(service: String, answer: Result<i32, Failure>) -> Self {
        let is_alive = answer.as_ref().map_or_else(shows_life, |_| true);
        Self { alive: Some(is_alive), ..Self::new(service, answer) }
    }

    /// Judges the services of a list. Equal statuses share what is to say about them.
    pub(crate) fn of_list(statuses: Vec<(String, i32)>) -> impl Iterator<Item = Self> {
        let mut known = BTreeMap::new();
        statuses.into_iter().map(move |(service, status)| {
            let judgement =
                known.entry(status).or_insert_with(|| Self::new(String::new(), Ok(status)).judgement).clone();
            Self { service: service.into(), judgement, alive: None }
        })
    }

    /// The service in the request; empty for the server as a whole.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The status that the server answered with, if it answered.
    pub(crate) fn status(&self) -> Option<&str> {
        match &self.judgement {
            Judgement::Healthy => Some(ServingStatus::Serving.as_str_name()),
            Judgement::Unhealthy(unhealthy) => Some(&unhealthy.status),
            Judgement::Unanswered(_) => None,
        }
    }

    /// Whether the server is alive, if that decides.
    pub(crate) fn alive(&self) -> Option<bool> {
        self.alive
    }

    /// Whether the service is SERVING, which decides unless `-alive` is given.
    pub(crate) fn is_serving(&self) -> bool {
        matches!(self.judgement, Judgement::Healthy)
    }

    /// Why the probe is not healthy. `None` only if it is.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        if self.alive == Some(true) { None } else { self.not_serving() }
    }

    /// Why the service is not SERVING, whatever decides.
    pub(crate) fn not_serving(&self) -> Option<&Failure> {
        match &self.judgement {
            Judgement::Healthy => None,
            Judgement::Unhealthy(unhealthy) => Some(&unhealthy.failure),
            Judgement::Unanswered(failure) => Some(failure),
        }
    }

    /// Why there is no answer, to add to the message. What the server answered stays as it is.
    pub(crate) fn failure_mut(&mut self) -> Option<&mut Failure> {
        match &mut self.judgement {
            _ if self.alive == Some(true) => None,
            Judgement::Healthy | Judgement::Unhealthy(_) => None,
            Judgement::Unanswered(failure) => Some(failure),
        }
    }

    /// Whether the service is healthy, or with `-alive` its server alive.
    pub(crate) fn health(&self) -> Health {
        match self.failure() {
            None => Health::Healthy,
            Some(failure) => Health::Unhealthy(failure.kind.phase()),
        }
    }

    /// How much memory it takes, in bytes, about.
    pub(crate) fn size(&self) -> usize {
        /// What an allocator adds to each block.
        const BLOCK: usize = 16;
        let others = match &self.judgement {
            Judgement::Healthy => 0,
            Judgement::Unhealthy(it) => {
                let size = size_of::<Unhealthy>() + it.status.len() + it.failure.message.len() + 3 * BLOCK;
                size / Rc::strong_count(it)
            }
            Judgement::Unanswered(failure) => size_of::<Failure>() + failure.message.len() + 2 * BLOCK,
        };
        size_of::<Self>() + self.service.len() + BLOCK + others
    }
}

impl Judgement {
    fn unhealthy(status: i32, kind: Kind) -> Self {
        let status = status_name(status);
        let failure = Failure::new(kind, format!("service unhealthy (responded with {status:?})"));
        Self::Unhealthy(Rc::new(Unhealthy { status, failure }))
    }
}

/// Whether a server that is alive, and nothing else, gives this instead of a status.
fn shows_life(failure: &Failure) -> bool {
    let is_of_live_server = matches!(
        failure.grpc_code,
        Some(
            Code::NotFound
                | Code::Unimplemented
                | Code::Unauthenticated
                | Code::PermissionDenied
                | Code::ResourceExhausted
        )
    );
    failure.is_answer && is_of_live_server
}

/// Names a status as the protocol does, or by its number where it has no name.
pub(crate) fn status_name(status: i32) -> String {
    ServingStatus::try_from(status).map_or_else(|_| status.to_string(), |known| known.as_str_name().to_owned())
}
