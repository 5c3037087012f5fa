"""The cases: Check, List and metadata, over plaintext and unix sockets. Those of TLS and Watch are in files of their own."""

import re

from probes import DOWN, HEALTHY, NOT_SERVING, begins, equal, failed, merge, saw

CASES = {}
LONG = "u" * 300


def case(title):
    """Adds a case, in the order of the table."""

    def add(run):
        CASES[title] = run
        return run

    return add


@case("Check: SERVING")
def serving(cell):
    address = cell.address("plaintext")
    cell.healthy(address, saw=saw(authority=address, user_agent="grpc_health_probe"))
    cell.healthy(address, ["-service=up"], {"service": "up"}, saw=saw(service="up"))


@case("Check: NOT_SERVING")
def not_serving(cell):
    cell.case(
        cell.address("plaintext"), ["-service=down"], 4, DOWN, "", [merge(NOT_SERVING, {"service": "down"})]
    )


@case("Check: unknown service")
def unknown(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-service=unknown"], 3, "rpc", "service-unknown", begins(f"health check of {address} failed: NOT_FOUND")
    )


@case("Check: no health service")
def no_health_service(cell):
    address = cell.address("bare")
    cell.failure(
        address, [], 3, "rpc", "unimplemented",
        re.compile(re.escape(f"health check of {address} failed: ") + "[^\n]*UNIMPLEMENTED[^\n]*"),
        begins("this server does not offer the health service; register it, or probe the port that does"),
    )


@case("Check: UNAUTHENTICATED")
def unauthenticated(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-service=unauthenticated"], 3, "rpc", "unauthenticated",
        f"health check of {address} failed: UNAUTHENTICATED: no token",
    )


@case("Check: PERMISSION_DENIED")
def permission_denied(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-service=denied"], 3, "rpc", "rpc-permission-denied",
        f"health check of {address} failed: PERMISSION_DENIED: not for you",
    )


@case("Check: no answer in time")
def no_answer(cell):
    no_answer_within(cell, "1s", saw=saw(service="slow"))
    no_answer_within(cell, "1ms", times=10)


def no_answer_within(cell, limit, **more):
    """The server keeps the same deadline: now and then it is the first to say so, or never calls its handler."""
    address = cell.address("plaintext")
    cell.failure(
        address, ["-service=slow", f"-rpc-timeout={limit}"], 3, "rpc", re.compile("rpc-timeout|rpc-failed"),
        re.compile(
            re.escape(f"health check of {address} ")
            + f"(timed out after {limit}: connected, no answer|"
            + "failed: the server gave up [^\n:]+: DEADLINE_EXCEEDED[^\n]*)"
        ),
        **more,
    )


@case("Check: the deadline that the server sees")
def deadline(cell):
    cell.healthy(cell.address("plaintext"), ["-rpc-timeout=25s"], saw=saw(timeout=25))


@case("Check: several services")
def several(cell):
    address = cell.address("plaintext")
    cell.case(
        address, ["-service=up", "-service=down", "-service="], 4,
        f'up: status: SERVING\ndown: {DOWN}"": status: SERVING\n', "",
        [merge(HEALTHY, {"service": "up"}), merge(NOT_SERVING, {"service": "down"}), merge(HEALTHY, {"service": ""})],
    )
    cell.case(
        address, ["-service=up", f"-service={LONG}"], 0, f"up: status: SERVING\n{LONG}: status: SERVING\n", "",
        [merge(HEALTHY, {"service": "up"}), merge(HEALTHY, {"service": LONG})],
    )
    cell.case(
        address, ["-service=unknown", "-service=down", "-service=up"], 3, f"down: {DOWN}up: status: SERVING\n",
        re.compile("error: unknown: [^\n]+ failed: NOT_FOUND[^\n]*\n(hint: [^\n]+\n)?"),
        [
            merge(failed("rpc", "service-unknown"), {"service": "unknown"}),
            merge(NOT_SERVING, {"service": "down"}),
            merge(HEALTHY, {"service": "up"}),
        ],
    )


@case("Check: metadata")
def metadata(cell):
    cell.healthy(
        cell.address("plaintext"),
        ["-rpc-header=x-one: 1", "-rpc-header", "X-Two:a", "-rpc-header=x-two:  b: c",
         "-rpc-header=x-blob-bin: \x01\xe9\x7f"],
        saw=saw(x_one="1", x_two="a, b: c", x_blob_bin="AcOpfw"),
    )
    cell.healthy(cell.address("plaintext"), ["-user-agent=me/1"], saw=saw(user_agent="me/1"))


@case("Check: gzip")
def gzip(cell):
    address = cell.address("plaintext")
    cell.healthy(address, saw=saw(grpc_encoding=None, grpc_accept_encoding=None))
    for service in ("", LONG):
        cell.healthy(address, ["-gzip", f"-service={service}"], saw=saw(service=service, grpc_encoding="gzip"))


@case("Check: GOAWAY by age, before the answer")
def goaway_by_age(cell):
    cell.healthy(cell.address("aged"), ["-service=late"], saw=saw(service="late"))


@case("List")
def list_services(cell):
    services = [("down", "NOT_SERVING"), ('""', "SERVING"), ("up", "SERVING"), (LONG, "SERVING")]
    rows = [("SERVICE", "STATUS"), *services]
    cell.case(
        cell.address("plaintext"), ["-list"], 4, "".join(f"{name:300}  {status}\n" for name, status in rows), "",
        [merge(NOT_SERVING, {"service": "down"}), *(
            merge(HEALTHY, {"service": name.strip('"')}) for name, status in services[1:]
        )],
    )


@case("Names: localhost, :PORT, dns:///")
def names(cell):
    port = cell.address("plaintext").rpartition(":")[2]
    for form, authority in ((f"localhost:{port}", f"localhost:{port}"), (f":{port}", f"localhost:{port}"),
                            (f"dns:///localhost:{port}", f"localhost:{port}")):
        cell.healthy(form, saw=saw(authority=authority))


@case("Unix socket")
def unix_socket(cell):
    address = cell.address("unix")
    path = address.removeprefix("unix:")
    for form in (address, f"unix://{path}"):
        cell.healthy(form, saw=saw(authority="localhost"))


@case("The end: GOAWAY from us")
def farewell(cell):
    def goaway(server):
        equal("GOAWAY", 0, server.next("goaway")["goaway"])

    cell.healthy(cell.address("plaintext"), saw=goaway)
    cell.healthy(cell.address("tls"), ["-tls", f"-tls-ca-cert={cell.made.ca}"], saw=goaway)
