"""Where a server is no rule: what a case must do there instead, and why. Each is a note under the table.

An exception without a check stands for what cannot be tried with that server.
"""

import re

from cases import no_answer_within
from probes import begins, equal, saw

HINT_LIST = "this server has the health service, but not its method List; Check works"


def no_list(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-list"], 3, "rpc", re.compile("unimplemented|http-status"),
        re.compile(re.escape(f"listing the services of {address} failed: ") + "[^\n]*UNIMPLEMENTED[^\n]*"), HINT_LIST,
    )


def no_gzip(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-gzip", "-service=up"], 3, "rpc", "rpc-failed", begins(f"health check of {address} failed: UNKNOWN"),
        "leave out -gzip: without it, the server answers",
    )


def no_gzip_to_watch(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-gzip", "-watch", "-service=up"], 3, "rpc", "rpc-failed", begins(f"watching {address} failed: UNKNOWN"),
    )


def no_health_service(cell):
    address = cell.address("bare")
    cell.failure(
        address, [], 3, "rpc", "http-status",
        f"health check of {address} failed: the server answered HTTP 404 Not Found (UNIMPLEMENTED)",
        begins("no gRPC health service answers on this port; probe the port that has it"),
    )


def watch_not_found(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ["-watch", "-service=new"], 3, "rpc", "service-unknown",
        begins(f"watching {address} failed: NOT_FOUND"),
    )


def watch_stays_unknown(cell):
    watch = cell.watch(cell.address("plaintext"), "-service=new")
    watch.expect("it is not there", 'service unhealthy (responded with "SERVICE_UNKNOWN")')
    equal("exit code", 4, watch.stop()[0])


def no_answer_soon(cell):
    no_answer_within(cell, "1s", saw=saw(service="slow"))


TLS_1_2 = [
    "TLS 1.2: private CA", "mTLS, TLS 1.2: client certificate", "mTLS, TLS 1.2: client certificate missing",
    "mTLS, TLS 1.2: client certificate of a foreign CA", "mTLS, TLS 1.2: client certificate expired",
]

EXCEPTIONS = [
    (
        ["List"], ["c-core", "grpc-java", "tonic", "connect-go", "connect-node", "armeria", "tomcat", "grpclib"], no_list,
        "The server has no method List. The probe says so.",
    ),
    (
        ["Check: no health service"], ["connect-go", "connect-node", "armeria", "tomcat"], no_health_service,
        "The server answers HTTP 404. The probe reads that as UNIMPLEMENTED, and says so.",
    ),
    (
        ["Check: gzip"], ["grpclib"], no_gzip,
        "The server cannot decompress. The probe says to leave out `-gzip`.",
    ),
    (
        ["Check: no answer in time"], ["tomcat"], no_answer_soon,
        "Requests that are given up after 1 ms make the server fail the next one now and then, with HTTP 500, as they leave "
        "its objects without an address (`hostname can't be null`). So it is tried with a second alone.",
    ),
    (["Watch: gzip"], ["grpclib"], no_gzip_to_watch, "The server cannot decompress, and ends the watch with UNKNOWN."),
    (
        ["Watch: the server stops in good order, and starts again"], ["grpclib"], None,
        "The library says nothing to its clients when it stops. The end of the process does, which the next case shows.",
    ),
    (
        ["Watch: a service that is not there yet"], ["tonic", "connect-go", "armeria"], watch_not_found,
        "The server ends such a watch with NOT_FOUND, which the probe reports; health-checking.md wants SERVICE_UNKNOWN.",
    ),
    (
        ["Watch: a service that is not there yet"], ["grpclib"], watch_stays_unknown,
        "The server wants to know all services before it starts. The probe shows SERVICE_UNKNOWN.",
    ),
    (
        ["Check: GOAWAY by age, before the answer", "Watch: GOAWAY by age"],
        ["connect-go", "connect-node", "tomcat", "grpclib"], None,
        "The server has no setting for the age of connections.",
    ),
    (
        ["Watch: a server that pings, and allows no pings"], ["connect-node", "tomcat", "grpclib"], None,
        "The server has no public settings for keepalive.",
    ),
    (
        ["Watch: the server is killed, and starts again"], ["grpc-java", "armeria", "tomcat"], None,
        "A JVM starts too slowly to be started twice more. The case before this one has the server start again, too.",
    ),
    (TLS_1_2, ["c-core", "tonic"], None, "The library has no setting for the version of TLS."),
    (
        ["The end: GOAWAY from us"],
        ["c-core", "grpc-go", "grpc-java", "tonic", "connect-go", "armeria", "tomcat", "grpclib"], None,
        "The library does not show its users what GOAWAY it gets. It gets the same as those that show it.",
    ),
]


def find(title, slug):
    """The check and the reason of an exception, if there is one."""
    for titles, slugs, check, reason in EXCEPTIONS:
        if title in titles and slug in slugs:
            return check, reason
    return None
