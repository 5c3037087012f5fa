"""A handshaker service that serves both sides of an ALTS handshake and gives them the same key. It does no cryptography: real
peers only carry its messages, and encrypt records with its keys. Argument: its address. It prints a line when it listens, and one
for each client's start."""

import json
import secrets
import struct
import sys
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FIELD = descriptor_pb2.FieldDescriptorProto
# handshaker.proto of grpc.gcp, as far as it is needed: of each message the fields, with number and type.
MESSAGES = {
    "Version": [("major", 1, "uint32"), ("minor", 2, "uint32")],
    "Versions": [("max_rpc_version", 1, "Version"), ("min_rpc_version", 2, "Version")],
    "Identity": [("service_account", 1, "string")],
    "ClientStart": [
        ("handshake_security_protocol", 1, "int32"),
        ("application_protocols", 2, "string*"),
        ("record_protocols", 3, "string*"),
        ("target_name", 8, "string"),
        ("rpc_versions", 9, "Versions"),
        ("max_frame_size", 10, "uint32"),
    ],
    "ServerStart": [("in_bytes", 3, "bytes"), ("rpc_versions", 6, "Versions")],
    "Next": [("in_bytes", 1, "bytes"), ("network_latency_ms", 2, "uint32")],
    "Request": [("client_start", 1, "ClientStart"), ("server_start", 2, "ServerStart"), ("next", 3, "Next")],
    "Result": [
        ("application_protocol", 1, "string"),
        ("record_protocol", 2, "string"),
        ("key_data", 3, "bytes"),
        ("peer_identity", 4, "Identity"),
        ("local_identity", 5, "Identity"),
        ("keep_channel_open", 6, "bool"),
        ("peer_rpc_versions", 7, "Versions"),
        ("max_frame_size", 8, "uint32"),
    ],
    "Status": [("code", 1, "uint32"), ("details", 2, "string")],
    "Response": [
        ("out_frames", 1, "bytes"),
        ("bytes_consumed", 2, "uint32"),
        ("result", 3, "Result"),
        ("status", 4, "Status"),
    ],
}


def classes():
    file = descriptor_pb2.FileDescriptorProto(name="handshaker.proto", package="test", syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            label = FIELD.LABEL_REPEATED if kind.endswith("*") else FIELD.LABEL_OPTIONAL
            kind = kind.rstrip("*")
            if kind in MESSAGES:
                message.field.add(
                    name=field, number=number, label=label, type=FIELD.TYPE_MESSAGE, type_name=f".test.{kind}"
                )
            else:
                kind = getattr(FIELD, f"TYPE_{kind.upper()}")
                message.field.add(name=field, number=number, label=label, type=kind)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"test.{name}")) for name in MESSAGES}


MESSAGE = classes()
ACCOUNTS = {"client": "probe@project.iam.gserviceaccount.com", "server": "server@project.iam.gserviceaccount.com"}
HANDSHAKE_FRAME = 4
TOKEN_LENGTH = 16
# The key of each handshake, by the token that the server sends.
keys = {}


def frame(payload):
    return struct.pack("<II", 4 + len(payload), HANDSHAKE_FRAME) + payload


def take_frame(data):
    """The payload of the first frame and its length, or None while it is not whole."""
    if len(data) < 8:
        return None
    length, kind = struct.unpack("<II", data[:8])
    assert kind == HANDSHAKE_FRAME, f"a frame of type {kind}"
    return (data[8 : 4 + length], 4 + length) if len(data) >= 4 + length else None


def result(side, key):
    version = {"major": 2, "minor": 1}
    other = "server" if side == "client" else "client"
    return MESSAGE["Result"](
        application_protocol="grpc",
        record_protocol="ALTSRP_GCM_AES128_REKEY",
        key_data=key,
        peer_identity={"service_account": ACCOUNTS[other]},
        local_identity={"service_account": ACCOUNTS[side]},
        peer_rpc_versions={"max_rpc_version": version, "min_rpc_version": version},
        max_frame_size=1 << 20,
    )


def do_handshake(requests, context):
    response = MESSAGE["Response"]
    side, token = None, None
    for request in requests:
        if request.HasField("client_start"):
            start = request.client_start
            fields = {
                "handshake_security_protocol": start.handshake_security_protocol,
                "application_protocols": list(start.application_protocols),
                "record_protocols": list(start.record_protocols),
                "target_name": start.target_name,
                "rpc_versions": " ".join(str(start.rpc_versions).split()),
                "max_frame_size": start.max_frame_size,
                "user_agent": dict(context.invocation_metadata()).get("user-agent"),
            }
            print(json.dumps(fields), flush=True)
            side = "client"
            yield response(out_frames=frame(b"ClientInit"), status={"code": 0})
            continue
        data = request.server_start.in_bytes if request.HasField("server_start") else request.next.in_bytes
        side = side or "server"
        taken = take_frame(data)
        if taken is None:
            yield response(bytes_consumed=0, status={"code": 0})
            continue
        payload, length = taken
        if side == "server" and payload == b"ClientInit":
            token = secrets.token_bytes(TOKEN_LENGTH)
            # The service gives 128 bytes, of which a record protocol takes what it needs.
            keys[token] = secrets.token_bytes(128)
            yield response(out_frames=frame(b"ServerInit" + token), bytes_consumed=length, status={"code": 0})
        elif side == "server" and payload == b"ClientFinished":
            yield response(bytes_consumed=length, result=result("server", keys[token]), status={"code": 0})
            # C core waits for the end of the RPC.
            return
        elif side == "client" and payload.startswith(b"ServerInit"):
            key = keys[payload[len(b"ServerInit") :]]
            finished = frame(b"ClientFinished")
            yield response(
                out_frames=finished, bytes_consumed=length, result=result("client", key), status={"code": 0}
            )
            return
        else:
            yield response(status={"code": 3, "details": f"unexpected {payload!r}"})


class Handler(grpc.GenericRpcHandler):
    def service(self, call):
        if call.method != "/grpc.gcp.HandshakerService/DoHandshake":
            return None
        return grpc.stream_stream_rpc_method_handler(
            do_handshake,
            request_deserializer=MESSAGE["Request"].FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )


server = grpc.server(futures.ThreadPoolExecutor(max_workers=32))
server.add_generic_rpc_handlers((Handler(),))
assert server.add_insecure_port(sys.argv[1]), "cannot listen"
server.start()
print("listening", flush=True)
server.wait_for_termination()
