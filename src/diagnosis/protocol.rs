//! The fifth to the seventh step: what the server speaks, which certificate it shows, and its HTTP/2. Nothing but the beginning of
//! each protocol is sent: no request, and our certificate only to a server that is trusted.

use std::time::Duration;

use rustls_pki_types::ServerName;
use serde::Serialize;

use super::{
    certificate::Certificate,
    connections::Place,
    http2::{Begun, Http2, begin},
    time::share,
};
use crate::{
    connection::{Connection, Security},
    deadline::Deadline,
    duration::{format_duration, to_microseconds},
    net::{self, Endpoint, Target},
    outcome::{Failure, Kind, Session},
    tls::{self, Files, Look, Offer, Trust},
    trace::Trace,
};

/// How long each look may take.
const LIMIT: Duration = Duration::from_millis(1500);

/// What the server speaks.
#[derive(Debug, Serialize)]
pub(crate) struct Protocol {
    /// The place that was looked at.
    pub(crate) address: String,
    /// What it does with plaintext HTTP/2, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) plaintext: Option<String>,
    /// What it does with TLS, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<String>,
    /// What became of the ALTS handshake, if that was tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alts: Option<String>,
    /// Whether the server speaks what the flags say.
    pub(crate) fits: bool,
    /// The same in words.
    pub(crate) conclusion: String,
    /// Whether it speaks HTTP/2 in plaintext.
    #[serde(skip)]
    pub(crate) speaks_plaintext: bool,
    /// If it speaks TLS, whether it agrees to HTTP/2 in it.
    #[serde(skip)]
    http2_in_tls: Option<bool>,
    /// Whether it speaks TLS, and answers no ALPN at all.
    #[serde(skip)]
    pub(super) answers_no_alpn: bool,
}

impl Protocol {
    pub(super) fn speaks_tls(&self) -> bool {
        self.http2_in_tls.is_some()
    }

    /// Whether it speaks TLS, and does not agree to HTTP/2 in it.
    pub(super) fn lacks_alpn(&self) -> bool {
        self.http2_in_tls == Some(false)
    }
}

/// What the looks at one place show.
#[derive(Debug)]
pub(crate) struct Looks {
    pub(crate) protocol: Protocol,
    pub(crate) certificate: Option<Certificate>,
    pub(crate) http2: Option<Http2>,
    /// An open connection as a probe has it, if there is one.
    pub(crate) connection: Option<Connection>,
}

/// How to look at a server.
#[derive(Debug)]
pub(crate) enum Way {
    /// As a probe reaches it.
    Probe(Security),
    /// By TLS alone, where the files of a probe, or its SPIFFE identity, cannot be had.
    TlsAlone(TlsAlone),
}

/// A handshake in which we show no certificate, and after which nothing follows.
#[derive(Debug)]
pub(crate) struct TlsAlone {
    /// What to verify the server by, if it can be used. `None` for SPIFFE.
    pub(crate) trust: Option<Trust>,
    pub(crate) server_name: ServerName<'static>,
    pub(crate) needs_alpn: bool,
}

/// Looks at one place of the target, in the way of the flags.
pub(crate) async fn look(target: &Target, place: Place, way: &Way, deadline: Deadline) -> Looks {
    let address = place.name(target);
    let mut protocol = Protocol {
        address: address.clone(),
        plaintext: None,
        tls: None,
        alts: None,
        fits: false,
        conclusion: String::new(),
        speaks_plaintext: false,
        http2_in_tls: None,
        answers_no_alpn: false,
    };
    let name = target.server_name();
    let target = match place {
        Place::Tcp(address) => target.at(&target.address, Endpoint::Tcp(net::host_of(address), address.port())),
        Place::Unix => target.clone(),
    };
    let mut opened = None;
    let mut certificate = None;
    match way {
        Way::Probe(security @ Security::Alts(_)) => {
            opened = Some(look_at_alts(&target, security, &mut protocol, deadline).await);
        }
        Way::Probe(security @ Security::Tls(client)) => {
            let look = Box::pin(look_at_tls(&target, place, client, &mut protocol, deadline)).await;
            protocol.fits = protocol.http2_in_tls == Some(true);
            if look.as_ref().is_some_and(|look| matches!(look.trusted, Some(Ok(_)))) {
                // As a probe does it, with our certificate.
                opened = Some(begin(&target, security, deadline, &Trace::unfollowed()).await);
            }
            Box::pin(try_plaintext_after(look.as_ref(), &target, &mut protocol, deadline)).await;
            certificate = look.as_ref().and_then(|look| Certificate::new(look, client, opened.as_ref()));
        }
        Way::Probe(security @ Security::Plaintext) => {
            let plaintext = begin(&target, security, deadline, &Trace::unfollowed()).await;
            note_plaintext(&mut protocol, &plaintext);
            protocol.fits = protocol.speaks_plaintext;
            let may_be_tls = matches!(&plaintext, Err(failure) if matches!(
                failure.kind,
                Kind::ServerSpeaksTls | Kind::ClosedEarly | Kind::ServerSilent | Kind::NotHttp2
            ));
            opened = Some(plaintext);
            if may_be_tls && let Some(name) = tls::server_name_of(&name) {
                let tls = TlsAlone { trust: Some(Trust::System), server_name: name, needs_alpn: true };
                certificate = Box::pin(look_at_tls_alone(&target, place, &tls, &mut protocol, deadline)).await.1;
            }
        }
        Way::TlsAlone(tls) => {
            let (look, seen) = Box::pin(look_at_tls_alone(&target, place, tls, &mut protocol, deadline)).await;
            protocol.fits = protocol.http2_in_tls == Some(true);
            Box::pin(try_plaintext_after(look.as_ref(), &target, &mut protocol, deadline)).await;
            certificate = seen;
        }
    }
    if protocol.conclusion.is_empty() {
        let wants_tls = !matches!(way, Way::Probe(Security::Plaintext));
        protocol.conclusion = conclusion(&protocol, wants_tls).to_owned();
    }
    let (http2, connection) = match opened {
        Some(Ok((connection, http2))) => (Some(http2), Some(connection)),
        _ => (None, None),
    };
    Looks { protocol, certificate, http2, connection }
}

/// Tries plaintext where a look at TLS shows that the server speaks none.
async fn try_plaintext_after(look: Option<&Look>, target: &Target, protocol: &mut Protocol, deadline: Deadline) {
    let Some(Look { agreed: Err(failure), .. }) = look else { return };
    if !protocol.speaks_tls() && failure.kind != Kind::TlsTimeout {
        note_plaintext(protocol, &begin(target, &Security::Plaintext, deadline, &Trace::unfollowed()).await);
    }
}

/// Does an ALTS handshake and begins HTTP/2 over it, as a probe does.
async fn look_at_alts(target: &Target, security: &Security, protocol: &mut Protocol, deadline: Deadline) -> Begun {
    let trace = Trace::unfollowed();
    let begun = Box::pin(begin(target, security, deadline, &trace)).await;
    let record = trace.record();
    let conclusion = match (&record.session, &begun) {
        (Some(Session::Alts(session)), _) => {
            protocol.fits = true;
            let account = session.peer_service_account.as_deref().unwrap_or("a server without a service account");
            let took = format_duration(to_microseconds(record.timings.alts.unwrap_or_default()));
            protocol.alts = Some(format!("handshake with {account} ({took})"));
            "the server speaks ALTS, as the flags say"
        }
        (_, Err(failure)) => {
            protocol.alts = Some(cause(failure));
            match failure.kind {
                Kind::AltsOtherProtocol => {
                    note_plaintext(protocol, &begin(target, &Security::Plaintext, deadline, &trace).await);
                    "the server does not speak ALTS, and the flags say ALTS"
                }
                Kind::AltsHandshaker | Kind::AltsNotOnGcp => {
                    "what the server speaks is not known, as no handshaker service helps to ask"
                }
                _ => "no ALTS handshake succeeds with the server",
            }
        }
        (_, Ok(_)) => "",
    };
    conclusion.clone_into(&mut protocol.conclusion);
    begun
}

/// Whether the server speaks what the flags say, in words.
fn conclusion(protocol: &Protocol, wants_tls: bool) -> &'static str {
    match (wants_tls, protocol.speaks_plaintext, protocol.speaks_tls()) {
        (true, _, true) if protocol.lacks_alpn() => "the server speaks TLS, but does not offer HTTP/2 in it (ALPN)",
        (true, _, true) => "the server speaks TLS, as the flags say",
        (true, true, false) => "the server speaks plaintext, and the flags say TLS",
        (false, true, _) => "the server speaks plaintext HTTP/2, as the flags say",
        (false, false, true) => "the server speaks TLS, and the flags say plaintext",
        (_, false, false) => "the server speaks neither HTTP/2 in plaintext nor TLS",
    }
}

fn note_plaintext(protocol: &mut Protocol, begun: &Begun) {
    protocol.speaks_plaintext = begun.is_ok();
    protocol.plaintext = Some(match begun {
        Ok(_) => "HTTP/2".to_owned(),
        Err(failure) => cause(failure),
    });
}

/// The cause of a failure, without what was done.
fn cause(failure: &Failure) -> String {
    failure.message.split_once(": ").map_or(failure.message.clone(), |(_, cause)| cause.to_owned())
}

/// Looks at TLS: as a probe offers it, and where that succeeds, or fails for ALPN, in other ways as well.
async fn look_at_tls(
    target: &Target,
    place: Place,
    client: &tls::Client,
    protocol: &mut Protocol,
    deadline: Deadline,
) -> Option<Look> {
    let look = |offer| async move {
        let deadline = share(deadline, LIMIT);
        let stream = place.connect(target, deadline).await.ok()?;
        Some(client.look(stream, &target.address, offer, deadline).await)
    };
    let as_probe = look(Offer::Probe).await?;
    let speaks_tls = as_probe.agreed.is_ok() || !as_probe.chain.is_empty() || is_answer_in_tls(&as_probe);
    protocol.http2_in_tls = speaks_tls.then_some(true);
    let mut texts = Vec::new();
    match &as_probe.agreed {
        Ok(agreed) => {
            protocol.http2_in_tls = Some(client.accepts_alpn(agreed.alpn.as_deref().map(str::as_bytes)));
            protocol.answers_no_alpn = agreed.alpn.is_none();
            let alpn = agreed.alpn.as_deref().map_or("no ALPN".to_owned(), |alpn| format!("ALPN {alpn}"));
            let took = format_duration(to_microseconds(as_probe.took));
            texts.push(format!("{}, {}, {alpn} ({took})", agreed.version, agreed.cipher));
            if agreed.version == "TLSv1.3" {
                match look(Offer::OldVersion).await.map(|look| look.agreed) {
                    Some(Ok(_)) => texts.push("TLSv1.2 too".to_owned()),
                    Some(Err(failure)) if failure.kind == Kind::TlsVersion => texts.push("not TLSv1.2".to_owned()),
                    // A server refuses a client without a certificate earlier in TLS 1.2.
                    Some(Err(failure)) if failure.kind == Kind::TlsClientCertificateRequired => {
                        texts.push("TLSv1.2 too".to_owned());
                    }
                    _ => {}
                }
            }
        }
        Err(failure) => {
            texts.push(cause(failure));
            if failure.kind == Kind::TlsNoH2 {
                protocol.http2_in_tls = Some(false);
                match look(Offer::WithoutAlpn).await.map(|look| look.agreed) {
                    Some(Ok(agreed)) => texts.push(format!("without ALPN it accepts {}", agreed.version)),
                    Some(Err(failure)) => texts.push(format!("without ALPN: {}", cause(&failure))),
                    None => {}
                }
            }
        }
    }
    protocol.tls = Some(texts.join("; "));
    Some(as_probe)
}

/// Whether a handshake failed in a way that shows that the server speaks TLS.
fn is_answer_in_tls(look: &Look) -> bool {
    look.agreed.as_ref().is_err_and(|failure| {
        matches!(
            failure.kind,
            Kind::TlsNoH2 | Kind::TlsVersion | Kind::TlsClientCertificateRequired | Kind::TlsClientCertificateRejected
        ) || failure.message.contains("alert ")
    })
}

/// Looks at the server's TLS, and at its certificate. Where nothing can verify that, it is looked at all the same.
async fn look_at_tls_alone(
    target: &Target,
    place: Place,
    tls: &TlsAlone,
    protocol: &mut Protocol,
    deadline: Deadline,
) -> (Option<Look>, Option<Certificate>) {
    let TlsAlone { trust, server_name, needs_alpn } = tls;
    let (files_deadline, trace) = (share(deadline, LIMIT), Trace::unfollowed());
    let client = async |trust| {
        let files = Files { trust, identity: None };
        tls::Client::from_files(&files, server_name.clone(), files_deadline, &trace).await.ok()
    };
    let verifying = match trust {
        Some(trust) => client(trust.clone()).await,
        None => None,
    };
    let can_verify = verifying.is_some();
    let client = if can_verify { verifying } else { client(Trust::Anyone).await };
    let Some(client) = client.map(|client| client.needs_alpn(*needs_alpn)) else { return (None, None) };
    let look = Box::pin(look_at_tls(target, place, &client, protocol, deadline)).await;
    let mut certificate = look.as_ref().and_then(|look| Certificate::new(look, &client, None));
    if let Some(certificate) = certificate.as_mut().filter(|_| !can_verify) {
        let why = match trust {
            None => "the Workload API gave nothing to verify it with",
            Some(Trust::System) => "there are no trusted certificates on this system",
            Some(Trust::File(_) | Trust::Anyone) => "the trusted certificates cannot be used",
        };
        why.clone_into(&mut certificate.by);
    }
    (look, certificate)
}
