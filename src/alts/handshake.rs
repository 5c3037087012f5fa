//! The handshake: the handshaker says what to send to the server, and gets what the server sends, until it has a result.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::Instant,
};

use super::{
    cipher::KEY_DATA_LEN,
    failure::Attempt,
    messages::{
        HandshakerReq, HandshakerResp, HandshakerResult, Identity, NextHandshakeMessageReq, RpcProtocolVersions,
        StartClientHandshakeReq, Version,
    },
    service::{Conversation, Handshaker},
};
use crate::{
    deadline::Deadline,
    http2::{FirstBytes, PeerSniffer},
    net::Stream,
    outcome::{AltsSession, Failure, Kind, Session},
    text::excerpt,
    trace::Trace,
};

/// `HandshakeProtocol.ALTS`.
const ALTS: i32 = 2;
const APPLICATION_PROTOCOL: &str = "grpc";
const RECORD_PROTOCOL: &str = "ALTSRP_GCM_AES128_REKEY";
/// The only version of gRPC that we speak.
const OUR_VERSION: Version = Version { major: 2, minor: 1 };
/// How much the handshaker may leave unread of what the server sent. A message of the handshake is much shorter.
const MAX_UNREAD: usize = 64 * 1024;
/// How many bytes show that they are not ALTS. A message of ALTS begins with its length.
const RECOGNISABLE: usize = 5;

/// What a handshake agreed on.
#[derive(Debug)]
pub(super) struct Agreed {
    pub(super) key_data: [u8; KEY_DATA_LEN],
    pub(super) session: AltsSession,
    /// What the server sent after its part of the handshake.
    pub(super) received: Vec<u8>,
    /// The conversation, if the handshaker wants it to go on as long as the connection.
    pub(super) kept: Option<Box<dyn Conversation>>,
}

/// Runs the handshake with the server at the other end of `stream`.
///
/// # Errors
/// Those of the phase alts.
pub(super) async fn run(
    handshaker: &dyn Handshaker,
    target_name: &str,
    stream: &mut PeerSniffer<Stream>,
    first_bytes: &FirstBytes,
    attempt: &Attempt<'_>,
    deadline: Deadline,
    trace: &Trace,
) -> Result<Agreed, Failure> {
    let by_handshaker = |failure| attempt.by_handshaker(failure);
    let silent = || {
        let cause = format!("did not answer within {}", deadline.limit());
        attempt.broken(&handshaker.name(), &cause)
    };
    let mut conversation = handshaker.connect(deadline).await.map_err(by_handshaker)?;
    let start = client_start(target_name);
    let answer = deadline.bound(conversation.ask(&start)).await.map_err(|_| silent())?;
    let mut answer = answer.map_err(by_handshaker)?;
    let mut unread = Vec::new();
    loop {
        let HandshakerResp { out_frames, result, status, .. } = answer;
        if let Some(status) = status.filter(|status| status.code != 0) {
            let refused = attempt.refused(&handshaker.name(), status.code, &status.details);
            return Err(attempt.by_first_bytes(first_bytes).unwrap_or(refused));
        }
        let written = async {
            // The stream reports no errors of writing: reading shows why.
            let _ = stream.write_all(&out_frames).await;
            let _ = stream.flush().await;
        };
        let timed_out = || attempt.timed_out(deadline, first_bytes);
        deadline.bound(written).await.map_err(|_| timed_out())?;
        if let Some(result) = result {
            let session = session(&result);
            trace.set_session(Session::Alts(session.clone()));
            let checked = check(&result).map_err(|(kind, cause)| match kind {
                Kind::AltsHandshaker => attempt.broken(&handshaker.name(), &cause),
                _ => attempt.failed(kind, &cause),
            });
            let key_data = checked?;
            let kept = Some(conversation).filter(|_| result.keep_channel_open);
            return Ok(Agreed { key_data, session, received: unread, kept });
        }
        let sent = Instant::now();
        let read = deadline.bound(read(stream, &mut unread, first_bytes)).await.map_err(|_| timed_out())?;
        if let Some(failure) = attempt.by_first_bytes(first_bytes) {
            return Err(failure);
        }
        if read == 0 && unread.len() == MAX_UNREAD {
            return Err(attempt.broken(&handshaker.name(), "does not take what the server sends"));
        }
        if read == 0 {
            return Err(attempt.closed(first_bytes));
        }
        let took = u32::try_from(sent.elapsed().as_millis()).unwrap_or(u32::MAX);
        let next = NextHandshakeMessageReq { in_bytes: unread, network_latency_ms: took };
        let next = HandshakerReq { client_start: None, next: Some(next) };
        let answered = deadline.bound(conversation.ask(&next)).await.map_err(|_| silent())?;
        answer = answered.map_err(by_handshaker)?;
        unread = next.next.map(|next| next.in_bytes).unwrap_or_default();
        let consumed = answer.bytes_consumed as usize;
        if consumed > unread.len() {
            return Err(attempt.broken(&handshaker.name(), "says that it read more than the server sent"));
        }
        unread.drain(..consumed);
    }
}

/// Reads what the server sends, at least as much as shows whether that may be ALTS. Returns how much: none at the end of the
/// stream, or if there is no room.
async fn read(stream: &mut PeerSniffer<Stream>, unread: &mut Vec<u8>, first_bytes: &FirstBytes) -> usize {
    let before = unread.len();
    loop {
        let room = MAX_UNREAD - unread.len();
        match stream.take(room as u64).read_buf(unread).await {
            Ok(1..) if first_bytes.received().total() < RECOGNISABLE => {}
            _ => return unread.len() - before,
        }
    }
}

fn client_start(target_name: &str) -> HandshakerReq {
    let start = StartClientHandshakeReq {
        handshake_security_protocol: ALTS,
        application_protocols: vec![APPLICATION_PROTOCOL.to_owned()],
        record_protocols: vec![RECORD_PROTOCOL.to_owned()],
        target_name: target_name.to_owned(),
        rpc_versions: Some(RpcProtocolVersions {
            max_rpc_version: Some(OUR_VERSION),
            min_rpc_version: Some(OUR_VERSION),
        }),
    };
    HandshakerReq { client_start: Some(start), next: None }
}

/// The key, if both sides agree on how to use it.
fn check(result: &HandshakerResult) -> Result<[u8; KEY_DATA_LEN], (Kind, String)> {
    if result.record_protocol != RECORD_PROTOCOL {
        let cause = format!("chose the unknown record protocol \"{}\"", excerpt(&result.record_protocol));
        return Err((Kind::AltsHandshaker, cause));
    }
    // It may give more than this protocol needs.
    let Some(key_data) = result.key_data.first_chunk() else {
        return Err((Kind::AltsHandshaker, format!("gave a key of {} bytes", result.key_data.len())));
    };
    let versions = result.peer_rpc_versions.unwrap_or_default();
    let version = |version: Option<Version>| version.unwrap_or_default();
    let (least, most) = (version(versions.min_rpc_version), version(versions.max_rpc_version));
    if !(least..=most).contains(&OUR_VERSION) {
        let name = |Version { major, minor }| format!("{major}.{minor}");
        let (ours, least, most) = (name(OUR_VERSION), name(least), name(most));
        let cause = format!("the server speaks versions {least} to {most} of gRPC's protocol, not {ours}");
        return Err((Kind::AltsRefused, cause));
    }
    Ok(*key_data)
}

/// Who the two sides are.
fn session(result: &HandshakerResult) -> AltsSession {
    let account =
        |identity: &Option<Identity>| identity.as_ref()?.service_account.clone().filter(|account| !account.is_empty());
    AltsSession {
        peer_service_account: account(&result.peer_identity),
        local_service_account: account(&result.local_identity),
    }
}
