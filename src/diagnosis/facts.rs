//! What the steps found, for the verdict and the advice.

use super::{
    certificate::Certificate, connections::Attempt, health::Health, machine::Machine, names::Names, protocol::Protocol,
};

/// Everything that the steps found.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) names: Option<Names>,
    pub(crate) machine: Option<Machine>,
    pub(crate) connections: Vec<Attempt>,
    pub(crate) protocol: Option<Protocol>,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) health: Option<Health>,
}
