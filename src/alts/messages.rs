//! The messages of the handshaker service (handshaker.proto of grpc.gcp): the fields that a client sends and reads.

/// A message to the handshaker: one of both.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HandshakerReq {
    #[prost(message, optional, tag = "1")]
    pub(super) client_start: Option<StartClientHandshakeReq>,
    #[prost(message, optional, tag = "3")]
    pub(super) next: Option<NextHandshakeMessageReq>,
}

/// Begins a handshake as the client.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct StartClientHandshakeReq {
    #[prost(int32, tag = "1")]
    pub(super) handshake_security_protocol: i32,
    #[prost(string, repeated, tag = "2")]
    pub(super) application_protocols: Vec<String>,
    #[prost(string, repeated, tag = "3")]
    pub(super) record_protocols: Vec<String>,
    #[prost(string, tag = "8")]
    pub(super) target_name: String,
    #[prost(message, optional, tag = "9")]
    pub(super) rpc_versions: Option<RpcProtocolVersions>,
}

/// Hands over what the server sent.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct NextHandshakeMessageReq {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) in_bytes: Vec<u8>,
    #[prost(uint32, tag = "2")]
    pub(super) network_latency_ms: u32,
}

/// What the handshaker says.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HandshakerResp {
    /// For the server.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) out_frames: Vec<u8>,
    /// How much it has read of what the server sent.
    #[prost(uint32, tag = "2")]
    pub(super) bytes_consumed: u32,
    /// At the end of a handshake.
    #[prost(message, optional, tag = "3")]
    pub(super) result: Option<HandshakerResult>,
    #[prost(message, optional, tag = "4")]
    pub(super) status: Option<HandshakerStatus>,
}

/// What a handshake agreed on. `Debug` does not show the key.
#[derive(Clone, PartialEq, prost::Message)]
#[prost(skip_debug)]
pub(super) struct HandshakerResult {
    #[prost(string, tag = "2")]
    pub(super) record_protocol: String,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key_data: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    pub(super) peer_identity: Option<Identity>,
    #[prost(message, optional, tag = "5")]
    pub(super) local_identity: Option<Identity>,
    /// Whether the handshaker wants its channel to stay open as long as the connection to the server.
    #[prost(bool, tag = "6")]
    pub(super) keep_channel_open: bool,
    #[prost(message, optional, tag = "7")]
    pub(super) peer_rpc_versions: Option<RpcProtocolVersions>,
}

impl std::fmt::Debug for HandshakerResult {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HandshakerResult").field("peer_identity", &self.peer_identity).finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Identity {
    #[prost(string, optional, tag = "1")]
    pub(super) service_account: Option<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HandshakerStatus {
    /// A status code of gRPC.
    #[prost(uint32, tag = "1")]
    pub(super) code: u32,
    #[prost(string, tag = "2")]
    pub(super) details: String,
}

#[derive(Clone, Copy, PartialEq, prost::Message)]
pub(super) struct RpcProtocolVersions {
    #[prost(message, optional, tag = "1")]
    pub(super) max_rpc_version: Option<Version>,
    #[prost(message, optional, tag = "2")]
    pub(super) min_rpc_version: Option<Version>,
}

/// A version of gRPC. The order of the fields is that of versions.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub(super) struct Version {
    #[prost(uint32, tag = "1")]
    pub(super) major: u32,
    #[prost(uint32, tag = "2")]
    pub(super) minor: u32,
}
