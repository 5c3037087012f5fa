"""A health server on gRPC's C core, for interop.py. README.md says what it reads and prints."""

import os
import pathlib
import sys
import threading
from concurrent import futures

import grpc
import protocol
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

CODES = {"unauthenticated": grpc.StatusCode.UNAUTHENTICATED, "denied": grpc.StatusCode.PERMISSION_DENIED}
OPTIONS = {
    "aged": [("grpc.max_connection_age_ms", 1000), ("grpc.max_connection_age_grace_ms", 60000)],
    "strict": [
        ("grpc.keepalive_time_ms", 1000),
        ("grpc.keepalive_timeout_ms", 1000),
        ("grpc.http2.min_ping_interval_without_data_ms", 3600000),
        ("grpc.http2.max_ping_strikes", 1),
    ],
}


class Servicer(health.HealthServicer):
    def Check(self, request, context):
        protocol.report_check(request.service, context.time_remaining(), context.invocation_metadata())
        if request.service in protocol.REFUSALS:
            context.abort(CODES[request.service], protocol.REFUSALS[request.service])
        if request.service in protocol.WAITS:
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait(protocol.WAITS[request.service])
            return health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)
        return super().Check(request, context)


def credentials(prefix, ca=None):
    pair = (pathlib.Path(prefix + ".key").read_bytes(), pathlib.Path(prefix + ".pem").read_bytes())
    root = pathlib.Path(ca).read_bytes() if ca else None
    return grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=ca is not None)


def start(servicer, listener, port=0):
    """A server of this kind and its port, or nothing where C core has no such thing."""
    kind, _, rest = listener.partition(":")
    if kind.endswith("12"):
        # C core has no setting for the version of TLS.
        return None, None
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8), options=OPTIONS.get(kind))
    if kind != "bare":
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    if kind in ("tls", "mtls"):
        port = server.add_secure_port("127.0.0.1:0", credentials(*rest.split(":")))
    else:
        port = server.add_insecure_port(listener if kind == "unix" else f"127.0.0.1:{port}")
    server.start()
    return server, port


def stop(server):
    server.stop(grace=60).wait()
    protocol.report({"stopped": True})


def main():
    servicer = Servicer()
    for names, status in ((protocol.SERVING, "SERVING"), (protocol.NOT_SERVING, "NOT_SERVING")):
        for name in names:
            servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
    servers = {listener: start(servicer, listener) for listener in sys.argv[1:]}
    protocol.report({"ports": [port for _, port in servers.values()]})
    for line in sys.stdin:
        name, equals, status = line.strip().rpartition("=")
        if equals:
            servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        elif status == "stop":
            threading.Thread(target=stop, args=[servers["stoppable"][0]]).start()
        elif status == "start":
            servers["stoppable"] = start(servicer, "stoppable", servers["stoppable"][1])
        protocol.report({"echo": True})
    # Without waiting for handlers that still sleep.
    os._exit(0)


main()
