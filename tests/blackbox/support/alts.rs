//! ALTS without Google: a handshaker service that does as a script says, and servers that speak the record layer.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request, Response};
use hyper::body::Bytes;
use prost::Message;
use ring::{
    aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hmac,
};
use tokio::{net::TcpListener, runtime, sync::oneshot};

use super::{
    frames,
    peer::{Connection, Peer},
};

/// What the client's handshaker sends first, what a server answers, and what ends the client's part.
pub const CLIENT_INIT: &[u8] = b"\x0e\0\0\0\x04\0\0\0ClientInit";
pub const SERVER_INIT: &[u8] = b"\x0e\0\0\0\x04\0\0\0ServerInit";
pub const CLIENT_FINISHED: &[u8] = b"\x12\0\0\0\x04\0\0\0ClientFinished";
pub const PEER: &str = "server@project.iam.gserviceaccount.com";
pub const OURS: &str = "probe@project.iam.gserviceaccount.com";
/// What both sides get: a service gives more than this record protocol takes.
const KEY_DATA: [u8; 128] = [42; 128];

// The messages of handshaker.proto.

#[derive(Clone, PartialEq, Message)]
pub struct HandshakerReq {
    #[prost(message, optional, tag = "1")]
    pub client_start: Option<ClientStart>,
    #[prost(message, optional, tag = "3")]
    pub next: Option<Next>,
}

#[derive(Clone, PartialEq, Message)]
pub struct ClientStart {
    #[prost(int32, tag = "1")]
    pub handshake_security_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    pub application_protocols: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub record_protocols: Vec<String>,
    #[prost(string, tag = "8")]
    pub target_name: String,
    #[prost(message, optional, tag = "9")]
    pub rpc_versions: Option<RpcVersions>,
    #[prost(uint32, tag = "10")]
    pub max_frame_size: u32,
}

#[derive(Clone, PartialEq, Message)]
pub struct Next {
    #[prost(bytes = "vec", tag = "1")]
    pub in_bytes: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandshakerResp {
    #[prost(bytes = "vec", tag = "1")]
    pub out_frames: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub bytes_consumed: u32,
    #[prost(message, optional, tag = "3")]
    pub result: Option<HandshakerResult>,
    #[prost(message, optional, tag = "4")]
    pub status: Option<HandshakerStatus>,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandshakerResult {
    #[prost(string, tag = "1")]
    pub application_protocol: String,
    #[prost(string, tag = "2")]
    pub record_protocol: String,
    #[prost(bytes = "vec", tag = "3")]
    pub key_data: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub peer_identity: Option<Identity>,
    #[prost(message, optional, tag = "5")]
    pub local_identity: Option<Identity>,
    #[prost(bool, tag = "6")]
    pub keep_channel_open: bool,
    #[prost(message, optional, tag = "7")]
    pub peer_rpc_versions: Option<RpcVersions>,
}

#[derive(Clone, PartialEq, Message)]
pub struct Identity {
    #[prost(string, tag = "1")]
    pub service_account: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct HandshakerStatus {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub details: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct RpcVersions {
    #[prost(message, optional, tag = "1")]
    pub max: Option<RpcVersion>,
    #[prost(message, optional, tag = "2")]
    pub min: Option<RpcVersion>,
}

#[derive(Clone, PartialEq, Message)]
pub struct RpcVersion {
    #[prost(uint32, tag = "1")]
    pub major: u32,
    #[prost(uint32, tag = "2")]
    pub minor: u32,
}

/// The versions from one to another.
pub fn versions(min: (u32, u32), max: (u32, u32)) -> RpcVersions {
    let version = |(major, minor)| Some(RpcVersion { major, minor });
    RpcVersions { max: version(max), min: version(min) }
}

/// How a handshaker answers a message.
pub enum Say {
    Answer(HandshakerResp),
    /// DATA with these bytes.
    Bytes(Vec<u8>),
    /// The end of the RPC, with this status and its message.
    Status(&'static str, &'static str),
    Nothing,
    /// `RST_STREAM`.
    Reset,
}

/// What the handshaker of a client says: the beginning, and the result once the server has answered.
pub fn as_usual(message: &HandshakerReq) -> Say {
    Say::Answer(match &message.next {
        None => HandshakerResp { out_frames: CLIENT_INIT.to_vec(), ..HandshakerResp::default() },
        Some(next) if next.in_bytes.len() < SERVER_INIT.len() => HandshakerResp::default(),
        Some(next) => {
            assert!(next.in_bytes.starts_with(SERVER_INIT), "{next:?}");
            with_result(|_| ())
        }
    })
}

/// The last answer, with a result that `change` may modify.
pub fn with_result(change: impl FnOnce(&mut HandshakerResult)) -> HandshakerResp {
    let account = |account: &str| Some(Identity { service_account: account.to_owned() });
    let mut result = HandshakerResult {
        application_protocol: "grpc".to_owned(),
        record_protocol: "ALTSRP_GCM_AES128_REKEY".to_owned(),
        key_data: KEY_DATA.to_vec(),
        peer_identity: account(PEER),
        local_identity: account(OURS),
        keep_channel_open: false,
        peer_rpc_versions: Some(versions((2, 1), (2, 1))),
    };
    change(&mut result);
    HandshakerResp {
        out_frames: CLIENT_FINISHED.to_vec(),
        bytes_consumed: u32::try_from(SERVER_INIT.len()).expect("it is short"),
        result: Some(result),
        status: Some(HandshakerStatus::default()),
    }
}

/// A handshaker service. Dropping it stops it.
pub struct Handshaker {
    pub address: SocketAddr,
    messages: Arc<Mutex<Vec<HandshakerReq>>>,
    _stop: oneshot::Sender<()>,
}

impl Handshaker {
    /// Serves handshakes as a real one does.
    pub fn usual() -> Self {
        Self::new(|_, message| as_usual(message))
    }

    /// Answers each message of a handshake as `script` says, which gets its number as well.
    pub fn new(script: impl Fn(usize, &HandshakerReq) -> Say + Send + Sync + 'static) -> Self {
        let (stop, stopped) = oneshot::channel();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        listener.set_nonblocking(true).expect("a socket can be non-blocking");
        let address = listener.local_addr().expect("it is bound");
        let messages = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), Arc::clone(&messages));
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime can be created").block_on(async {
                let listener = TcpListener::from_std(listener).expect("the listener is open");
                let serve = async {
                    while let Ok((stream, _)) = listener.accept().await {
                        let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                        tokio::spawn(async move {
                            let Ok(mut connection) = h2::server::handshake(stream).await else { return };
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                let (script, log) = (Arc::clone(&script), Arc::clone(&log));
                                tokio::spawn(async move { converse(request, respond, &*script, &log).await });
                            }
                        });
                    }
                };
                tokio::select! {
                    () = serve => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, messages, _stop: stop }
    }

    /// The flag that names it.
    pub fn flag(&self) -> String {
        format!("-alts-handshaker={}", self.address)
    }

    /// The messages of all handshakes so far.
    pub fn messages(&self) -> Vec<HandshakerReq> {
        self.messages.lock().expect("the lock is not poisoned").clone()
    }
}

/// One handshake.
async fn converse(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    script: &(dyn Fn(usize, &HandshakerReq) -> Say + Send + Sync),
    log: &Mutex<Vec<HandshakerReq>>,
) -> Option<()> {
    assert_eq!(request.uri().path(), "/grpc.gcp.HandshakerService/DoHandshake");
    assert_eq!(request.headers()["te"], "trailers");
    let mut body = request.into_body();
    let head = Response::builder().header("content-type", "application/grpc").body(()).expect("valid");
    // As servers do, the head comes with the first answer.
    let mut stream = None;
    let mut received = Vec::new();
    let mut number = 0;
    loop {
        while let Some(message) = take_message(&mut received) {
            let message = HandshakerReq::decode(&*message).expect("the probe sends messages of this service");
            log.lock().expect("the lock is not poisoned").push(message.clone());
            let said = script(number, &message);
            number += 1;
            let stream = match &mut stream {
                _ if matches!(said, Say::Nothing) => std::future::pending().await,
                Some(stream) => stream,
                None => stream.insert(respond.send_response(head.clone(), false).ok()?),
            };
            match said {
                Say::Answer(answer) => {
                    stream.send_data(frames::message(&answer.encode_to_vec()).into(), false).ok()?;
                }
                Say::Bytes(bytes) => stream.send_data(bytes.into(), false).ok()?,
                Say::Status(code, text) => {
                    let trailers = [("grpc-status", code), ("grpc-message", text)];
                    let trailers =
                        trailers.map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")));
                    return stream.send_trailers(HeaderMap::from_iter(trailers)).ok();
                }
                Say::Reset => {
                    stream.send_reset(h2::Reason::INTERNAL_ERROR);
                    return None;
                }
                Say::Nothing => {}
            }
        }
        let data = body.data().await?.ok()?;
        body.flow_control().release_capacity(data.len()).ok()?;
        received.extend_from_slice(&data);
    }
}

/// Takes the first length-prefixed message, if it is whole.
fn take_message(received: &mut Vec<u8>) -> Option<Vec<u8>> {
    let length = u32::from_be_bytes(*received.get(1..)?.first_chunk()?) as usize;
    let message = received.get(5..5 + length)?.to_vec();
    received.drain(..5 + length);
    Some(message)
}

/// One direction of the record layer, for as many records as its first key seals.
struct Direction {
    key: LessSafeKey,
    sender_bit: u8,
    count: u16,
}

impl Direction {
    fn new(sender_bit: u8) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &KEY_DATA[..32]);
        let derived = hmac::sign(&key, &[0, 0, 0, 0, 0, 0, 1]);
        let key = UnboundKey::new(&AES_128_GCM, &derived.as_ref()[..16]).expect("16 bytes are a key");
        Self { key: LessSafeKey::new(key), sender_bit, count: 0 }
    }

    fn nonce(&mut self) -> Nonce {
        let mut nonce: [u8; 12] = KEY_DATA[32..44].try_into().expect("12 bytes");
        nonce.iter_mut().zip(self.count.to_le_bytes()).for_each(|(byte, count)| *byte ^= count);
        nonce[11] ^= self.sender_bit;
        self.count = self.count.checked_add(1).expect("a test sends few records");
        Nonce::assume_unique_for_key(nonce)
    }
}

/// The server's side of the record layer.
pub struct Records {
    sealer: Direction,
    opener: Direction,
}

impl Records {
    pub fn new() -> Self {
        Self { sealer: Direction::new(0x80), opener: Direction::new(0) }
    }

    /// A frame with this payload.
    pub fn seal(&mut self, payload: &[u8]) -> Vec<u8> {
        let mut record = payload.to_vec();
        let nonce = self.sealer.nonce();
        self.sealer.key.seal_in_place_append_tag(nonce, Aad::empty(), &mut record).expect("it is short");
        frame(6, &record)
    }

    /// Reads the next frame and returns its payload, until the probe closes.
    pub fn receive(&mut self, mut receive: impl FnMut(usize) -> Vec<u8>) -> Option<Vec<u8>> {
        let length = u32::from_le_bytes(*receive(4).first_chunk()?);
        let frame = receive(length as usize);
        let mut record = frame.strip_prefix(&[6, 0, 0, 0])?.to_vec();
        assert!(record.len() <= 4096, "a frame of at most 4 KiB is what every peer accepts");
        let nonce = self.opener.nonce();
        let payload = self.opener.key.open_in_place(nonce, Aad::empty(), &mut record).expect("the record is intact");
        Some(payload.to_vec())
    }
}

/// A frame of this type.
pub fn frame(kind: u8, record: &[u8]) -> Vec<u8> {
    let length = u32::try_from(4 + record.len()).expect("a frame is small");
    [&length.to_le_bytes(), &[kind, 0, 0, 0][..], record].concat()
}

/// Does the server's part of the handshake.
pub fn shake_hands(connection: &mut Connection) {
    if connection.receive(CLIENT_INIT.len()) == CLIENT_INIT {
        connection.send(SERVER_INIT);
        let finished = connection.receive(CLIENT_FINISHED.len());
        assert!(CLIENT_FINISHED.starts_with(&finished), "{finished:?}");
    }
}

/// A server behind ALTS: what comes in records goes to the plaintext server at this address, and back.
pub fn before(server: SocketAddr) -> Peer {
    Peer::new(move |connection, _| {
        shake_hands(connection);
        pass_on(connection, server);
    })
}

/// Passes on what comes in records, and back, until one of both closes.
pub fn pass_on(connection: &mut Connection, server: SocketAddr) {
    let mut plain = TcpStream::connect(server).expect("the server listens");
    let mut from_server = plain.try_clone().expect("the limit on open files is not reached");
    let mut to_probe = connection.stream();
    let back = thread::spawn(move || {
        let mut records = Records::new();
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = from_server.read(&mut bytes) {
            if to_probe.write_all(&records.seal(&bytes[..count])).is_err() {
                break;
            }
        }
        let _ = to_probe.shutdown(Shutdown::Write);
    });
    let mut records = Records::new();
    while let Some(payload) = records.receive(|count| connection.receive(count)) {
        if plain.write_all(&payload).is_err() {
            break;
        }
    }
    let _ = plain.shutdown(Shutdown::Write);
    back.join().expect("records can be sealed");
}
