"""A health server on grpclib, for interop.py. README.md says what it reads and prints."""

import asyncio
import os
import ssl
import sys

import protocol
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health
from grpclib.health.v1.health_pb2 import HealthCheckResponse
from grpclib.server import Server

CODES = {"unauthenticated": Status.UNAUTHENTICATED, "denied": Status.PERMISSION_DENIED}
# grpclib wants to know all services before it serves.
NAMES = [*protocol.SERVING, *protocol.NOT_SERVING, "changing"]
VALUES = {"SERVING": True, "NOT_SERVING": False}


class Named:
    """A service of this name."""

    def __init__(self, name):
        self.name = name

    def __mapping__(self):
        return {f"/{self.name}/Method": None}


class Peeked:
    """A stream whose request has been read."""

    def __init__(self, stream, request):
        self.stream = stream
        self.request = request

    async def recv_message(self):
        return self.request

    def __getattr__(self, name):
        return getattr(self.stream, name)


class Reporting(Health):
    """grpclib's health service, which reports each Check before it answers."""

    async def Check(self, stream):
        request = await stream.recv_message()
        timeout = stream.deadline.time_remaining() if stream.deadline else None
        protocol.report_check(request.service, timeout, [*stream.metadata.items(), ("user-agent", stream.user_agent)])
        if request.service in protocol.REFUSALS:
            raise GRPCError(CODES[request.service], protocol.REFUSALS[request.service])
        if request.service in protocol.WAITS:
            await asyncio.sleep(protocol.WAITS[request.service])
            await stream.send_message(HealthCheckResponse(status=HealthCheckResponse.SERVING))
        else:
            await super().Check(Peeked(stream, request))


def credentials(kind, prefix, ca=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(prefix + ".pem", prefix + ".key")
    context.set_alpn_protocols(["h2"])
    if ca:
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if kind.endswith("12"):
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


async def start(health, listener, port=0):
    """A server of this kind and its port, or nothing where grpclib has no such thing."""
    kind, _, rest = listener.partition(":")
    if kind in ("aged", "strict"):
        return None, None
    server = Server([] if kind == "bare" else [health], config=Configuration())
    if kind == "unix":
        await server.start(path=rest)
        return server, 0
    secure = kind.rstrip("12") in ("tls", "mtls")
    await server.start("127.0.0.1", port, ssl=credentials(kind, *rest.split(":")) if secure else None)
    return server, server._server.sockets[0].getsockname()[1]


async def stop(server):
    server.close()
    await server.wait_closed()
    protocol.report({"stopped": True})


async def main():
    statuses = {name: ServiceStatus() for name in NAMES}
    for names, value in ((protocol.SERVING, True), (protocol.NOT_SERVING, False)):
        for name in names:
            statuses[name].set(value)
    health = Reporting({OVERALL: [], **{Named(name): [status] for name, status in statuses.items()}})
    servers = {listener: await start(health, listener) for listener in sys.argv[1:]}
    protocol.report({"ports": [port for _, port in servers.values()]})
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = []
    while line := (await lines.readline()).decode():
        name, equals, status = line.strip().rpartition("=")
        if equals:
            statuses[name].set(VALUES.get(status))
        elif status == "stop":
            tasks.append(asyncio.create_task(stop(servers["stoppable"][0])))
        elif status == "start":
            servers["stoppable"] = await start(health, "stoppable", servers["stoppable"][1])
        protocol.report({"echo": True})
    os._exit(0)


asyncio.run(main())
