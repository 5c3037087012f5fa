"""Runs the probe with identities of SPIRE, against a health server that has its identity from SPIRE as well.

spire.py PROBE MADE [WORD]: MADE/bin has the programs that run has built. With a word, only the cases that have it in
their names.
"""

import contextlib
import datetime
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from domain import Domain
from processes import Process
from suite import PATIENCE, expect, run_cases, until

PROBE = sys.argv[1]
MADE = pathlib.Path(sys.argv[2])
PROGRAMS = MADE / "bin"

# Users. These have entries in both trust domains, /probe and /api.
PROBE_USER = 64001
SERVER_USER = 64002
# Each case that needs an entry of its own takes another user.
FREE_USERS = iter(range(64010, 64100))

NO_ENTRY = "no registration entry is for this process; with SPIRE: spire-server entry show"
IS_IT_RUNNING = "is the agent running, and can its socket be reached from here?"
IS_IT_AUTHORIZED = "does the server have the bundle of our trust domain, and does it authorize this ID?"


class Server(Process):
    """The health server, and the events that it prints."""

    def __init__(self, domain, *flags, uid=SERVER_USER):
        super().__init__(PROGRAMS / "health_server", *flags, uid=uid, environment=endpoint(domain))
        self.address = self.event("listening")["listening"]
        self.id = self.event("svid")["svid"]

    def event(self, kind, since=0, look=lambda event: True):
        """The next event of this kind that `look` accepts."""

        def of_kind(line):
            event = json.loads(line)
            return event if kind in event and look(event) else None

        return self.stdout.wait(of_kind, since)

    def last(self, kind):
        """The last event of this kind so far."""
        events = [json.loads(line) for line in self.stdout.lines]
        return [event for event in events if kind in event][-1]

    def renewed(self, kind, times=1):
        """Waits until there have been this many certificates of this kind after the first."""
        serials = set()

        def is_last(event):
            serials.add(event["serial"])
            return len(serials) > times

        self.event(kind, look=is_last)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


class Watch(Process):
    """A probe that watches."""

    def __init__(self, domain, server, uid):
        command = [PROBE, f"-addr={server.address}", "-spiffe", "-watch", "-v", "-exit-codes=detailed"]
        super().__init__(*command, uid=uid, environment=endpoint(domain))
        self.server = server
        self.expect("status: SERVING")

    def expect(self, *texts):
        """Waits until it has printed this many lines, which are just these, without their times."""
        self.stdout.wait(lambda line: True, len(texts) - 1)
        expect([line.partition(" ")[2] for line in self.stdout.lines], list(texts))

    def is_alive(self):
        """It has seen nothing but SERVING so far, and sees when that changes."""
        self.expect("status: SERVING")
        self.server.signal(signal.SIGUSR1)
        down = 'service unhealthy (responded with "NOT_SERVING")'
        self.expect("status: SERVING", down)
        self.server.signal(signal.SIGUSR2)
        self.expect("status: SERVING", down, "status: SERVING")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        code = self.stop()
        if kind is None:
            expect(code, 0)
            # It reports losses and failures on standard error.
            reported = [line for line in self.stderr.lines if re.match(r"\d{4}-\d\d-\d\dT", line)]
            expect(reported, [])


class Wait(Process):
    """A probe that waits."""

    def __init__(self, domain, address, *flags, uid=PROBE_USER):
        command = [PROBE, f"-addr={address}", "-spiffe", "-wait=60s", "-exit-codes=detailed", *flags]
        super().__init__(*command, uid=uid, environment=endpoint(domain))

    def waits_for(self, cause):
        self.stderr.wait(lambda line: line.startswith("waiting: ") and cause in line)

    def is_healthy_at_last(self):
        expect((self.finish(), self.stdout.wait_for("status: SERVING")), (0, "status: SERVING"))


def endpoint(domain):
    return {"SPIFFE_ENDPOINT_SOCKET": domain.endpoint}


def run(domain, *command, uid=PROBE_USER):
    """Runs a command of a user: its exit code and what it prints."""
    ran = subprocess.run(
        command, user=uid, group=uid, extra_groups=[], env=endpoint(domain), cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=PATIENCE,
    )
    return ran.returncode, ran.stdout, ran.stderr


def healthy(domain, address, *flags, uid=PROBE_USER):
    """Probes, as text and as JSON: the IDs in JSON, the server's and ours."""
    probe = [PROBE, f"-addr={address}", "-spiffe", "-exit-codes=detailed", *flags]
    expect(run(domain, *probe, uid=uid), (0, "status: SERVING\n", ""))
    code, stdout, stderr = run(domain, *probe, "-output=json", uid=uid)
    result = json.loads(stdout)
    expect((code, stderr, result["healthy"], result["status"]), (0, "", True, "SERVING"))
    return result["tls"]["spiffe_id"], result["tls"]["client_spiffe_id"]


def fails(domain, address, *flags, code, phase, kind, message, hint=None, uid=PROBE_USER):
    """Probes, as text with both sets of exit codes, and as JSON. Message and hint may be patterns."""
    probe = [PROBE, f"-addr={address}", "-spiffe", *flags]
    detailed = [*probe, "-exit-codes=detailed"]
    lines = f"error: {pattern(message)}\n" + (f"hint: {pattern(hint)}\n" if hint else "")
    for command, expected_code in [(probe, 1), (detailed, code)]:
        found = run(domain, *command, uid=uid)
        expect(found[:2], (expected_code, ""))
        assert re.fullmatch(lines, found[2]), f"expected\n{lines}\ngot\n{found[2]}"
    found, stdout, stderr = run(domain, *detailed, "-output=json", uid=uid)
    error = json.loads(stdout)["error"]
    expect((found, stderr, error["phase"], error["kind"]), (code, "", phase, kind))


def pattern(text):
    return text.pattern if isinstance(text, re.Pattern) else re.escape(text)


def go_tool(domain, address, uid=PROBE_USER):
    """The exit code of the Go tool."""
    return run(domain, PROGRAMS / "grpc-health-probe", f"-addr={address}", "-spiffe", uid=uid)[0]


def handshake(address, cause):
    return f"TLS handshake with {address} failed: {cause}"


# The cases: each gets our trust domain, the server of it, and another trust domain with its server.


def healthy_and_who_is_who(ours, server, *_):
    expect(healthy(ours, server.address), (ours.id("/api"), ours.id("/probe")))
    for pinned in [ours.id("/api"), ours.id(), ours.name]:
        healthy(ours, server.address, f"-spiffe-id={pinned}")
    server.event("client", look=lambda event: event["client"] == ours.id("/probe"))
    expect(go_tool(ours, server.address), 0)


def another_id_than_expected(ours, server, *_):
    for pinned in [ours.id("/cart"), "spiffe://other.test"]:
        fails(
            ours, server.address, f"-spiffe-id={pinned}", code=2, phase="tls", kind="tls-certificate-wrong-name",
            message=handshake(server.address, f"the server is {server.id}, not {pinned}"),
        )


def no_entry(ours, server, *_):
    stranger = next(FREE_USERS)
    fails(
        ours, server.address, uid=stranger, code=20, phase="spiffe", kind="workload-api-denied", hint=NO_ENTRY,
        message=f"no SVID from the SPIFFE Workload API at {ours.endpoint}: PERMISSION_DENIED: no identity issued",
    )
    expect(go_tool(ours, server.address, stranger), 20)


def wait_until_there_is_an_entry(ours, server, *_):
    newcomer = next(FREE_USERS)
    wait = Wait(ours, server.address, uid=newcomer)
    wait.waits_for("PERMISSION_DENIED: no identity issued")
    ours.enter("newcomer", newcomer)
    wait.is_healthy_at_last()
    expect(healthy(ours, server.address, uid=newcomer), (server.id, ours.id("/newcomer")))


def another_trust_domain(ours, _, theirs, their_server):
    fails(
        ours, their_server.address, code=2, phase="tls", kind="tls-certificate-unknown-issuer",
        message=handshake(
            their_server.address,
            f"the server is {their_server.id}, and the Workload API gave no bundle for that trust domain (but for ours.test)",
        ),
    )
    expect(go_tool(ours, their_server.address), 2)


def federation(ours, server, theirs, their_server):
    # With entries of their own, so that nobody else is federated.
    client, uid = next(FREE_USERS), next(FREE_USERS)
    ours.enter("federated", client)
    theirs.enter("federated", uid)
    with Server(theirs, uid=uid) as federated:
        wait = Wait(ours, federated.address, uid=client)
        wait.waits_for("the Workload API gave no bundle for that trust domain")
        ours.trust(theirs)
        ours.change("federated", f"-federatesWith={theirs.id()}")
        rejected = "the server rejected our SVID " + ours.id("/federated")
        wait.waits_for(rejected)
        fails(
            ours, federated.address, uid=client, code=2, phase="tls", kind="tls-client-certificate-rejected",
            message=re.compile(re.escape(handshake(federated.address, rejected)) + r" \(alert \w+\)"),
            hint=IS_IT_AUTHORIZED,
        )
        expect(go_tool(ours, federated.address, client), 2)
        theirs.trust(ours)
        theirs.change("federated", f"-federatesWith={ours.id()}")
        wait.is_healthy_at_last()
        for flags in [[], [f"-spiffe-id={theirs.id('/federated')}"], [f"-spiffe-id={theirs.name}"]]:
            expect(healthy(ours, federated.address, *flags, uid=client), (federated.id, ours.id("/federated")))
        expect(go_tool(ours, federated.address, client), 0)
        # Both trust domains have bundles, but only one is expected.
        fails(
            ours, federated.address, f"-spiffe-id={ours.name}", uid=client, code=2, phase="tls",
            kind="tls-certificate-wrong-name",
            message=handshake(federated.address, f"the server is {federated.id}, not {ours.id()}"),
        )
        healthy(ours, server.address, f"-spiffe-id={ours.name}", uid=client)


def several_entries(ours, server, *_):
    # SPIRE sends them in the order of their entries' IDs, whatever their hints are. The first is the default.
    uid = next(FREE_USERS)
    ours.enter("b-older", uid, "-hint=external")
    expect(healthy(ours, server.address, uid=uid), (server.id, ours.id("/b-older")))
    ours.enter("a-newer", uid, "-hint=internal")
    expect(healthy(ours, server.address, uid=uid), (server.id, ours.id("/a-newer")))
    # The Go tool presents the same.
    since = len(server.stdout.lines)
    expect(go_tool(ours, server.address, uid), 0)
    expect(server.event("client", since)["client"], ours.id("/a-newer"))


def no_agent(ours, server, *_):
    what = f"no SVID from the SPIFFE Workload API at {ours.endpoint}: cannot connect to {ours.endpoint}: "
    for number, cause in [(signal.SIGTERM, "no such file"), (signal.SIGKILL, "connection refused")]:
        ours.stop_agent(number)
        fails(
            ours, server.address, code=20, phase="spiffe", kind="workload-api-unreachable", message=what + cause,
            hint=IS_IT_RUNNING,
        )
        expect(go_tool(ours, server.address), 20)
        # With these flags the probe goes on until the agent is back.
        wait = Wait(ours, server.address)
        wait.waits_for(cause)
        patient = Process(
            PROBE, f"-addr={server.address}", "-spiffe", "-connect-timeout=60s", uid=PROBE_USER, environment=endpoint(ours)
        )
        ours.start_agent()
        wait.is_healthy_at_last()
        expect((patient.finish(), patient.stderr.lines), (0, []))


def rotation_during_a_watch(ours, *_):
    client, uid = next(FREE_USERS), next(FREE_USERS)
    ours.enter("brief-client", client, "-x509SVIDTTL=20")
    ours.enter("brief-server", uid, "-x509SVIDTTL=20")
    # The server has its clients connect again all the time.
    with Server(ours, "-max-connection-age=2s", uid=uid) as server, Watch(ours, server, client) as watch:
        server.renewed("svid", 2)
        server.renewed("client", 2)
        watch.is_alive()


def restart_of_the_agent_during_a_watch(ours, *_):
    with Server(ours, "-max-connection-age=2s") as server, Watch(ours, server, PROBE_USER) as watch:
        before = server.event("client")["serial"]
        ours.stop_agent()
        watch.stderr.wait_for("using the last SVID again, which is valid until ")
        expect(server.event("client", len(server.stdout.lines))["serial"], before)
        ours.start_agent()
        server.renewed("client")
        watch.is_alive()


def an_expired_server(ours, *_):
    uid = next(FREE_USERS)
    ours.enter("brief-and-frozen", uid, "-x509SVIDTTL=5")
    with Server(ours, "-frozen", uid=uid) as server:
        until_after(server.event("svid")["until"])
        fails(
            ours, server.address, code=2, phase="tls", kind="tls-certificate-expired",
            message=re.compile(re.escape(handshake(server.address, "the certificate expired on ")) + "[^\n]+"),
        )
        expect(go_tool(ours, server.address), 2)


def spires_server_is_away(ours, server, *_):
    uid = next(FREE_USERS)
    ours.enter("brief", uid, "-x509SVIDTTL=10")
    ours.server.stop()
    healthy(ours, server.address, uid=uid)
    svid = server.last("client")
    expect(svid["client"], ours.id("/brief"))
    until_after(svid["until"])
    # The agent gives what it has, even if that has expired.
    healthy(ours, server.address)
    fails(
        ours, server.address, uid=uid, code=2, phase="tls", kind="tls-client-certificate-rejected",
        message=handshake(server.address, f"the server rejected our SVID {ours.id('/brief')} (alert bad_certificate)"),
        hint=re.compile(r"our SVID expired at \S+Z \(\d+ seconds? ago\); does the agent renew it\? see the agent's log"),
    )
    expect(go_tool(ours, server.address, uid), 2)
    wait = Wait(ours, server.address, uid=uid)
    wait.waits_for("the server rejected our SVID")
    ours.start_server()
    wait.is_healthy_at_last()


def rotation_of_the_authority(ours, *_):
    def authorities():
        return json.loads(ours.ask("localauthority", "x509", "show", "-output=json"))

    with (
        Server(ours, "-frozen") as frozen,
        Server(ours, "-max-connection-age=2s") as server,
        Watch(ours, server, PROBE_USER) as watch,
    ):
        old = authorities()["active"]["authority_id"]
        ours.ask("localauthority", "x509", "prepare")
        ours.ask("localauthority", "x509", "activate", f"-authorityID={authorities()['prepared']['authority_id']}")
        # The bundle has both.
        healthy(ours, frozen.address)
        ours.ask("localauthority", "x509", "taint", f"-authorityID={old}")
        server.renewed("svid")
        server.renewed("client")
        ours.ask("localauthority", "x509", "revoke", f"-authorityID={old}")
        until(lambda: fails(
            ours, frozen.address, code=2, phase="tls", kind="tls-certificate-unknown-issuer",
            message=handshake(
                frozen.address, f"no certificate in the bundle of {ours.name} has issued that of {frozen.id}"
            ),
        ))
        expect(go_tool(ours, frozen.address), 2)
        expect(healthy(ours, server.address), (server.id, ours.id("/probe")))
        watch.is_alive()


def until_after(moment):
    """Waits until a certificate has expired. Those who look at it may count whole seconds."""
    left = datetime.datetime.fromisoformat(moment) - datetime.datetime.now(datetime.timezone.utc)
    time.sleep(max(0, left.total_seconds() + 1))


CASES = [
    healthy_and_who_is_who,
    another_id_than_expected,
    no_entry,
    wait_until_there_is_an_entry,
    another_trust_domain,
    federation,
    several_entries,
    no_agent,
    rotation_during_a_watch,
    restart_of_the_agent_during_a_watch,
    an_expired_server,
    spires_server_is_away,
    rotation_of_the_authority,
]


def main():
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(dir=MADE)))
        folder.chmod(0o755)
        stack.callback(Process.stop_all)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped by SIGTERM"))
        can_reach(PROBE, PROGRAMS / "health_server", folder)
        began = time.monotonic()
        started = []
        for name in ["ours.test", "theirs.test"]:
            domain = Domain(name, PROGRAMS, folder)
            domain.enter("probe", PROBE_USER)
            domain.enter("api", SERVER_USER)
            started += [domain, Server(domain)]
        print(f"      SPIRE is up ({time.monotonic() - began:.0f} s)", flush=True)
        return run_cases(CASES, sys.argv[3:], *started)


def can_reach(*paths):
    """Ends the run if the users cannot get to these."""
    for path in paths:
        if subprocess.run(["test", "-x", path], user=PROBE_USER, group=PROBE_USER, extra_groups=[]).returncode:
            sys.exit(f"{path}: other users cannot reach it; its directories need chmod o+x")


sys.exit(main())
