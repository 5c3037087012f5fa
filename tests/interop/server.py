"""A health server on gRPC's C core, for interop.py.

server.py [--without-health] LISTENER...

LISTENER is plaintext, unix:PATH, tls:PREFIX or mtls:PREFIX:CA; PREFIX.pem and PREFIX.key are the server's certificate
and key. The first line on stdout is {"ports": [...]}, in the order of the listeners; then each Check gets a line of its
own, printed before it is answered. A line on stdin is answered with {"echo": true}, after NAME=STATUS in it is set; the
server ends when stdin does.
"""

import base64
import json
import os
import pathlib
import sys
import threading
from concurrent import futures

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

REFUSALS = {
    "unauthenticated": (grpc.StatusCode.UNAUTHENTICATED, "no token"),
    "denied": (grpc.StatusCode.PERMISSION_DENIED, "not for you"),
}


def report(value):
    # In one piece, whichever thread it comes from.
    os.write(1, json.dumps(value).encode() + b"\n")


class Servicer(health.HealthServicer):
    def Check(self, request, context):
        report(
            {
                "service": request.service,
                "timeout": context.time_remaining(),
                "metadata": [
                    [key, {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value]
                    for key, value in context.invocation_metadata()
                ],
            }
        )
        if request.service in REFUSALS:
            context.abort(*REFUSALS[request.service])
        if request.service == "slow":
            gone = threading.Event()
            if context.add_callback(gone.set):
                gone.wait(30)
        return super().Check(request, context)


def credentials(prefix, ca=None):
    pair = (pathlib.Path(prefix + ".key").read_bytes(), pathlib.Path(prefix + ".pem").read_bytes())
    root = pathlib.Path(ca).read_bytes() if ca else None
    return grpc.ssl_server_credentials([pair], root_certificates=root, require_client_auth=ca is not None)


def listen(server, listener):
    kind, _, rest = listener.partition(":")
    if kind == "plaintext":
        return server.add_insecure_port("127.0.0.1:0")
    if kind == "unix":
        return server.add_insecure_port(listener)
    return server.add_secure_port("127.0.0.1:0", credentials(*rest.split(":")))


def main():
    listeners = sys.argv[1:]
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    if listeners[0] == "--without-health":
        del listeners[0]
    else:
        servicer = Servicer()
        servicer.set("up", health_pb2.HealthCheckResponse.SERVING)
        servicer.set("u" * 300, health_pb2.HealthCheckResponse.SERVING)
        servicer.set("down", health_pb2.HealthCheckResponse.NOT_SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    ports = [listen(server, listener) for listener in listeners]
    server.start()
    report({"ports": ports})
    for line in sys.stdin:
        name, equals, status = line.strip().rpartition("=")
        if equals:
            servicer.set(name, health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        report({"echo": True})
    # Without waiting for handlers that still sleep.
    os._exit(0)


main()
