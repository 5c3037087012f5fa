//! SPIFFE IDs (SPIFFE-ID.md): `spiffe://trust-domain/path`.

use std::fmt;

use anyhow::{Result, anyhow, ensure};

/// The longest SPIFFE ID, in bytes.
const MAX_ID: usize = 2048;
/// The longest name of a trust domain, in bytes.
const MAX_TRUST_DOMAIN: usize = 255;

/// The name of a workload within its trust domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpiffeId {
    pub(crate) trust_domain: TrustDomain,
    /// Empty, or `/` and segments.
    path: String,
}

/// The name of a trust domain, which issues identities.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TrustDomain(String);

impl SpiffeId {
    /// Reads a SPIFFE ID.
    ///
    /// # Errors
    /// The text is not a SPIFFE ID.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        ensure!(text.len() <= MAX_ID, "a SPIFFE ID has at most {MAX_ID} bytes");
        let rest = text.strip_prefix("spiffe://").ok_or_else(|| anyhow!("a SPIFFE ID begins with spiffe://"))?;
        let (trust_domain, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        for segment in path.split('/').skip(1) {
            ensure!(!segment.is_empty(), "the path of a SPIFFE ID has an empty segment");
            ensure!(segment != "." && segment != "..", "the path of a SPIFFE ID has no \".\" and \"..\"");
            let is_allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            ensure!(
                segment.bytes().all(is_allowed),
                "the path of a SPIFFE ID has letters, digits, \"-\", \".\" and \"_\" only"
            );
        }
        Ok(Self { trust_domain: TrustDomain::named(trust_domain)?, path: path.to_owned() })
    }

    /// Whether this is the ID of a trust domain, not of a workload.
    pub(crate) fn is_trust_domain(&self) -> bool {
        self.path.is_empty()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}{}", self.trust_domain, self.path)
    }
}

impl TrustDomain {
    /// Reads a trust domain's name, or the ID of one or of a workload in it.
    ///
    /// # Errors
    /// The text is not a trust domain.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        if text.contains("://") { Ok(SpiffeId::parse(text)?.trust_domain) } else { Self::named(text) }
    }

    fn named(name: &str) -> Result<Self> {
        ensure!(!name.is_empty(), "the trust domain is missing");
        ensure!(name.len() <= MAX_TRUST_DOMAIN, "a trust domain has at most {MAX_TRUST_DOMAIN} bytes");
        let is_allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        ensure!(
            name.bytes().all(is_allowed),
            "a trust domain has lower-case letters, digits, \"-\", \".\" and \"_\" only"
        );
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
