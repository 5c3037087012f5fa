"""The cases of TLS and mTLS."""

import re

from cases import LONG, case
from probes import begins, saw


def ca(cell):
    return ["-tls", f"-tls-ca-cert={cell.made.ca}"]


def handshake(address, cause=None):
    failure = f"TLS handshake with {address} failed: "
    return failure + cause if cause else re.compile(re.escape(failure) + "[^\n]+")


@case("-tls to a plaintext port")
def plaintext_server(cell):
    address = cell.address("plaintext")
    cell.failure(
        address, ca(cell), 2, "tls", "tls-plaintext-server",
        begins(handshake(address, "the server does not speak TLS")), begins("leave out -tls"),
    )


@case("Plaintext to a TLS port")
def without_tls(cell):
    address = cell.address("tls")
    # The probe looks for TLS for 200 ms, which is short for some servers while all are busy.
    for attempt in range(5):
        try:
            return cell.failure(
                address, [], 2, "http2", "server-speaks-tls", begins(f"no HTTP/2 from {address}: "), begins("add -tls"),
            )
        except AssertionError:
            if attempt == 4:
                raise


@case("TLS: private CA")
def private_ca(cell):
    address = cell.address("tls")
    port = address.rpartition(":")[2]
    until = f"{cell.made.until:%Y-%m-%d}"
    details = {"tls": {"version": re.compile(".*1.3"), "cipher": re.compile(".+"), "not_after": re.compile(until + ".*")}}
    cell.healthy(address, ca(cell), details)
    cell.healthy(
        f"localhost:{port}", ca(cell), {"tls": {"server_name": "localhost"}}, saw=saw(authority=f"localhost:{port}")
    )
    cell.healthy(address, [*ca(cell), "-service=" + LONG])


@case("TLS: certificate pinned")
def pinned(cell):
    cell.healthy(cell.address("tls"), ["-tls", f"-tls-ca-cert={cell.made.server}.pem"])


@case("TLS: unknown CA")
def unknown_ca(cell):
    address = cell.address("tls")
    cell.failure(
        address, ["-tls", f"-tls-ca-cert={cell.made.other_ca}"], 2, "tls", "tls-certificate-unknown-issuer",
        handshake(address),
    )


@case("TLS: expired certificate")
def expired(cell):
    address = cell.address("expired")
    cell.failure(
        address, ca(cell), 2, "tls", "tls-certificate-expired",
        handshake(address, f"the certificate expired on {cell.made.expired:%Y-%m-%d} (3 days ago)"),
    )


@case("TLS: wrong name")
def wrong_name(cell):
    address = cell.address("named")
    cell.failure(
        address, ca(cell), 2, "tls", "tls-certificate-wrong-name",
        handshake(address, "the certificate is valid for health.internal, not for 127.0.0.1"),
        "use -tls-server-name=health.internal",
    )
    address = cell.address("tls")
    cell.failure(
        address, [*ca(cell), "-tls-server-name=health.internal"], 2, "tls", "tls-certificate-wrong-name",
        re.compile(handshake(address).pattern + ", not for health.internal"),
    )


@case("TLS: -tls-server-name")
def server_name(cell):
    cell.healthy(
        cell.address("named"), [*ca(cell), "-tls-server-name=health.internal"],
        {"tls": {"server_name": "health.internal"}}, saw=saw(authority="health.internal"),
    )


@case("TLS: -tls-no-verify")
def no_verify(cell):
    for listener in ("expired", "named"):
        cell.healthy(cell.address(listener), ["-tls", "-tls-no-verify"])


@case("TLS: -tls-no-verify with -tls-server-name")
def no_verify_with_name(cell):
    cell.healthy(
        cell.address("tls"), ["-tls", "-tls-no-verify", "-tls-server-name=other.internal"],
        saw=saw(authority="other.internal"),
    )


def mtls(version, listener):
    @case(f"mTLS, TLS {version}: client certificate")
    def accepted(cell):
        address = cell.address(listener)
        cell.healthy(address, [*ca(cell), *cell.made.client], {"tls": {"version": re.compile(f".*{version}")}})
        cell.healthy(address, ["-tls", "-tls-no-verify", *cell.made.client])

    @case(f"mTLS, TLS {version}: client certificate missing")
    def missing(cell):
        address = cell.address(listener)
        cell.failure(
            address, ca(cell), 2, "tls", "tls-client-certificate-required", handshake(address), times=10
        )

    @case(f"mTLS, TLS {version}: client certificate of a foreign CA")
    def foreign(cell):
        address = cell.address(listener)
        cell.failure(
            address, [*ca(cell), *cell.made.foreign_client], 2, "tls", "tls-client-certificate-rejected",
            handshake(address), times=10,
        )

    @case(f"mTLS, TLS {version}: client certificate expired")
    def client_expired(cell):
        address = cell.address(listener)
        cell.failure(
            address, [*ca(cell), *cell.made.expired_client], 2, "tls", "tls-client-certificate-rejected",
            handshake(address), times=10,
        )


mtls("1.3", "mtls")


@case("TLS 1.2: private CA")
def private_ca_12(cell):
    cell.healthy(cell.address("tls12"), ca(cell), {"tls": {"version": re.compile(".*1.2")}})


mtls("1.2", "mtls12")
