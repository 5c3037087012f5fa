"""Runs the probe against health servers on gRPC's C core and on grpc-js: see README.md.

interop.py PROBE
"""

import contextlib
import json
import os
import pathlib
import queue
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import threading

import certificates

HERE = pathlib.Path(__file__).parent
PROBE = os.path.abspath(sys.argv[1])
# How long any one process may take for anything.
PATIENCE = 20

HEALTHY = {"healthy": True, "status": "SERVING", "timings_ms": {"rpc": re.compile(r"[\d.]+")}}
NOT_SERVING = {"healthy": False, "status": "NOT_SERVING", "error": {"phase": "health", "kind": "not-serving"}}
ALL_FLAGS = [["-exit-codes=docker"], ["-exit-codes=detailed"], ["-exit-codes=detailed", "-output=json"]]
DOWN = 'service unhealthy (responded with "NOT_SERVING")\n'
UNIMPLEMENTED_HINT = "this server does not offer the health service; register it, or probe the port that does"


class Server:
    """A server process: its addresses, and what it prints."""

    def __init__(self, command, folder, *listeners):
        self.log = pathlib.Path(tempfile.mkstemp(dir=folder, suffix=".log")[1])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *listeners], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.lines = queue.Queue()
        self.addresses = []
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self):
        """Waits until it listens."""
        self.addresses = [f"127.0.0.1:{port}" for port in self.next("ports")["ports"]]

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def next(self, key):
        """What the server printed up to the next line with `key`, as one."""
        all_lines = {}
        while key not in all_lines:
            try:
                all_lines.update(self.lines.get(timeout=PATIENCE))
            except queue.Empty:
                raise AssertionError(f"the server printed no {key!r}; its stderr:\n{self.log.read_text()}") from None
        return all_lines

    def forget(self, line=""):
        """Passes over what it has printed so far. The line may be NAME=STATUS, to be set."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.next("echo")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)


class Watch:
    """A probe that watches, and what it prints on standard output."""

    def __init__(self, address, *arguments):
        command = [PROBE, f"-addr={address}", "-watch", "-exit-codes=detailed", *arguments]
        self.process = subprocess.Popen(
            command, env={}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.killer = threading.Timer(PATIENCE, self.process.kill)
        self.killer.start()

    def next(self):
        """The next line, without its time."""
        line = self.process.stdout.readline()
        time, _, rest = line.rstrip("\n").partition(" ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time), f"no line with its time: {line!r}"
        return rest

    def stop(self):
        """Ends it: its exit code and what it printed on standard error."""
        self.process.terminate()
        _, stderr = self.process.communicate(timeout=PATIENCE)
        self.killer.cancel()
        return self.process.returncode, stderr


class Cases:
    """Runs cases and counts them."""

    def __init__(self):
        self.passed = 0
        self.failed = 0

    def case(
        self, name, address, arguments=(), code=0, stdout="", stderr="", results=(), server=None, saw=None, times=1
    ):
        """One command line, run with each set of exit codes, and with JSON output.

        `code` is the exit code of the detailed set. `stdout` and `stderr` are a text or a pattern; `results` are what
        each line of JSON must have among other things. `saw` looks at what `server` printed about the request.
        All of it is done `times` times, to the first failure, for what two processes race for.
        """
        problems = []
        for flags in ALL_FLAGS * times:
            if problems and times > 1:
                break
            if server:
                server.forget()
            command = [PROBE, f"-addr={address}", *flags, *arguments]
            try:
                run = subprocess.run(
                    command, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                    timeout=PATIENCE,
                )
            except subprocess.TimeoutExpired:
                problems.append(f"$ {shlex.join(command)}\nstill runs after {PATIENCE} s")
                continue
            wrong = []
            expected_code = code if "-exit-codes=detailed" in flags else min(code, 1)
            if run.returncode != expected_code:
                wrong.append(f"exit code: expected {expected_code}")
            if "-output=json" in flags:
                wrong += differences(list(results), json_lines(run.stdout, address), "stdout")
                wrong += differences("", run.stderr, "stderr")
            else:
                wrong += differences(stdout, run.stdout, "stdout")
                wrong += differences(stderr, run.stderr, "stderr")
            if saw and not wrong:
                try:
                    saw(server)
                except AssertionError as error:
                    wrong.append(f"the server: {error}")
            if wrong:
                shown = f"exit code {run.returncode}\nstdout: {run.stdout!r}\nstderr: {run.stderr!r}"
                problems.append("\n".join([f"$ {shlex.join(command)}", shown, *wrong]))
        if problems:
            self.failed += 1
            print(f"FAIL  {name}")
            print("\n".join("      " + line for problem in problems for line in problem.splitlines()))
        else:
            self.passed += 1
            print(f"ok    {name}", flush=True)

    def sequence(self, name, steps):
        """What is told by a function that fails if it does not go as it should."""
        try:
            steps()
        except AssertionError as error:
            self.failed += 1
            print(f"FAIL  {name}\n      {error}")
        else:
            self.passed += 1
            print(f"ok    {name}", flush=True)

    def healthy(self, name, address, arguments=(), result=None, **more):
        self.case(name, address, arguments, 0, "status: SERVING\n", "", [merge(HEALTHY, result or {})], **more)

    def failure(self, name, address, arguments, code, phase, kind, message, hint=None, **more):
        """A failure with this line (a text or a pattern), and this hint; without one given, any or none."""
        hint = "(hint: [^\n]+\n)?" if hint is None else f"hint: {text_pattern(hint)}\n"
        stderr = re.compile(f"error: {text_pattern(message)}\n{hint}")
        self.case(name, address, arguments, code, "", stderr, [failed(phase, kind)], **more)


def failed(phase, kind):
    return {"healthy": False, "error": {"phase": phase, "kind": kind, "message": re.compile(".+")}}


def merge(one, other):
    return {**one, **other}


def text_pattern(text):
    return text.pattern if isinstance(text, re.Pattern) else re.escape(text)


def json_lines(text, address):
    try:
        lines = [json.loads(line) for line in text.splitlines()]
    except ValueError:
        return "not JSON"
    if any(line.get("addr") != address for line in lines):
        return 'a line whose "addr" is not the one given'
    return lines


def differences(expected, actual, where):
    """What of `expected` is not so. Dictionaries may have more than is expected."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        return [
            wrong
            for key, value in expected.items()
            for wrong in differences(value, actual.get(key), f"{where}.{key}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            wrong
            for i, value in enumerate(expected)
            for wrong in differences(value, actual[i], f"{where}[{i}]")
        ]
    if isinstance(expected, re.Pattern):
        same = expected.fullmatch(str(actual))
    else:
        same = expected == actual
    return [] if same else [f"{where}: expected {expected!r}"]


def equal(what, expected, actual):
    assert expected == actual, f"{what}: expected {expected!r}, saw {actual!r}"


def request(server, service="", authority=None, timeout=1, **headers):
    """Checks the request that `server` got. A header that came twice has its values joined, as grpc-js does."""
    seen = server.next("service")
    equal("service", service, seen["service"])
    left = seen["timeout"]
    assert timeout - 1 < left < timeout + 0.1, f"deadline: expected about {timeout} s, saw {left} s"
    metadata = {}
    for name, value in seen["metadata"]:
        value = value["base64"] if isinstance(value, dict) else value
        metadata[name] = f"{metadata[name]}, {value}" if name in metadata else value
    # Only grpc-js shows all that came.
    wire = dict(seen.get("headers", []))
    for name, value in headers.items():
        name = name.replace("_", "-")
        if name == "user-agent":
            # What the library adds is its own business.
            equal(name, [value], metadata.get(name, "").split()[:1])
        elif name.startswith("grpc-"):
            if wire:
                equal(name, value, wire.get(name))
        else:
            equal(name, value, metadata.get(name))
    if wire:
        if authority:
            equal(":authority", authority, wire[":authority"])
        equal(":path", "/grpc.health.v1.Health/Check", wire[":path"])
        equal("te", "trailers", wire["te"])
        assert wire["content-type"].startswith("application/grpc"), f"content-type: saw {wire['content-type']!r}"
        assert re.fullmatch(r"\d{1,8}[HMSmun]", wire["grpc-timeout"]), f"grpc-timeout: saw {wire['grpc-timeout']!r}"


def plaintext_cases(cases, kind, server, address):
    def saw(**expected):
        return {"server": server, "saw": lambda server: request(server, **expected)}

    port = address.rpartition(":")[2]
    cases.healthy(f"{kind}: SERVING", address, **saw(authority=address, user_agent="grpc_health_probe"))
    for form, authority in ((f"localhost:{port}", f"localhost:{port}"), (f":{port}", f"localhost:{port}"),
                            (f"dns:///localhost:{port}", f"localhost:{port}")):
        cases.healthy(f"{kind}: {form.replace(port, 'PORT')}", form, **saw(authority=authority))
    cases.healthy(f"{kind}: -service=up", address, ["-service=up"], {"service": "up"}, **saw(service="up"))
    cases.case(
        f"{kind}: -service=down", address, ["-service=down"], 4, DOWN, "", [merge(NOT_SERVING, {"service": "down"})]
    )
    cases.failure(
        f"{kind}: -service=unknown", address, ["-service=unknown"], 3, "rpc", "service-unknown",
        re.compile(re.escape(f"health check of {address} failed: NOT_FOUND") + "[^\n]*"),
    )
    cases.failure(
        f"{kind}: UNAUTHENTICATED", address, ["-service=unauthenticated"], 3, "rpc", "unauthenticated",
        f"health check of {address} failed: UNAUTHENTICATED: no token",
    )
    cases.failure(
        f"{kind}: PERMISSION_DENIED", address, ["-service=denied"], 3, "rpc", "rpc-permission-denied",
        f"health check of {address} failed: PERMISSION_DENIED: not for you",
    )
    # The server keeps the same deadline: now and then it is the first to say so, or never calls its handler.
    for limit, more in (("300ms", saw(service="slow", timeout=0.3)), ("1ms", {"times": 30})):
        cases.failure(
            f"{kind}: no answer within {limit}", address, ["-service=slow", f"-rpc-timeout={limit}"], 3,
            "rpc", re.compile("rpc-timeout|rpc-failed"),
            re.compile(
                re.escape(f"health check of {address} ")
                + f"(timed out after {limit}: connected, no answer|"
                + "failed: the server gave up [^\n:]+: DEADLINE_EXCEEDED[^\n]*)"
            ),
            **more,
        )
    cases.case(
        f"{kind}: several services", address, ["-service=up", "-service=down", "-service="], 4,
        f"up: status: SERVING\ndown: {DOWN}\"\": status: SERVING\n", "",
        [merge(HEALTHY, {"service": "up"}), merge(NOT_SERVING, {"service": "down"}), merge(HEALTHY, {"service": ""})],
    )
    cases.case(
        f"{kind}: several services, all healthy", address, ["-service=up", f"-service={'u' * 300}"], 0,
        f"up: status: SERVING\n{'u' * 300}: status: SERVING\n", "",
        [merge(HEALTHY, {"service": "up"}), merge(HEALTHY, {"service": "u" * 300})],
    )
    cases.case(
        f"{kind}: several services, one of them unknown", address,
        ["-service=unknown", "-service=down", "-service=up"], 3,
        f"down: {DOWN}up: status: SERVING\n",
        re.compile("error: unknown: [^\n]+ failed: NOT_FOUND[^\n]*\n(hint: [^\n]+\n)?"),
        [
            merge(failed("rpc", "service-unknown"), {"service": "unknown"}),
            merge(NOT_SERVING, {"service": "down"}),
            merge(HEALTHY, {"service": "up"}),
        ],
    )
    cases.healthy(
        f"{kind}: -rpc-header", address,
        ["-rpc-header=x-one: 1", "-rpc-header", "X-Two:a", "-rpc-header=x-two:  b: c",
         "-rpc-header=x-blob-bin: \x01\xe9\x7f"],
        **saw(x_one="1", x_two="a, b: c", x_blob_bin="AcOpfw=="),
    )
    cases.healthy(f"{kind}: -user-agent", address, ["-user-agent=me/1"], **saw(user_agent="me/1"))
    cases.healthy(f"{kind}: -rpc-timeout=5s", address, ["-rpc-timeout=5s"], **saw(timeout=5))
    cases.healthy(f"{kind}: no -gzip", address, [], **saw(grpc_encoding=None, grpc_accept_encoding=None))
    for service in ("", "u" * 300):
        cases.healthy(
            f"{kind}: -gzip, {len(service)} bytes of service", address, ["-gzip", f"-service={service}"],
            **saw(service=service, grpc_encoding="gzip"),
        )


def watch_cases(cases, kind, server, address, *arguments):
    def follow():
        watch = Watch(address, "-service=changing", *arguments)
        equal("before it is set", 'service unhealthy (responded with "SERVICE_UNKNOWN")', watch.next())
        for status, line in (("SERVING", "status: SERVING"), ("NOT_SERVING", DOWN.strip()), ("SERVING", "status: SERVING")):
            server.forget(f"changing={status}")
            equal(status, line, watch.next())
        equal("end", (0, "stopped by SIGTERM\n"), watch.stop())

    cases.sequence(f"{kind}: -watch", follow)
    # For those who come after.
    server.forget("changing=SERVICE_UNKNOWN")


def restart_case(cases, kind, command, folder, start):
    """A server goes while it is watched, and comes again on the same socket."""

    def follow():
        path = folder / f"{kind}-restart.sock"
        first = start(command, folder, f"unix:{path}")
        watch = Watch(f"unix:{path}", "-service=down")
        equal("at first", DOWN.strip(), watch.next())
        first.kill()
        path.unlink(missing_ok=True)
        second = start(command, folder, f"unix:{path}")
        equal("again", DOWN.strip(), watch.next())
        second.forget("down=SERVING")
        equal("changed", "status: SERVING", watch.next())
        code, stderr = watch.stop()
        equal("exit code", 0, code)
        for word in ("error: watching unix:", f"connected to unix:{path} again", "stopped by SIGTERM"):
            assert word in stderr, f"expected {word!r} in {stderr!r}"

    cases.sequence(f"{kind}: -watch over a restart", follow)


def list_cases(cases, kind, address, has_list):
    if not has_list:
        cases.failure(
            f"{kind}: -list", address, ["-list"], 3, "rpc", "unimplemented",
            f"listing the services of {address} failed: UNIMPLEMENTED: Method not implemented!",
            "this server has the health service, but not its method List; Check works",
        )
        return
    services = [("down", "NOT_SERVING"), ('""', "SERVING"), ("up", "SERVING"), ("u" * 300, "SERVING")]
    rows = [("SERVICE", "STATUS"), *services]
    cases.case(
        f"{kind}: -list", address, ["-list"], 4, "".join(f"{name:300}  {status}\n" for name, status in rows), "",
        [merge(NOT_SERVING, {"service": "down"}), *(
            merge(HEALTHY, {"service": name.strip('"')}) for name, status in services[1:]
        )],
    )


def tls_cases(cases, kind, server, made, tls, expired, named, mtls, version="1.3"):
    ca = ["-tls", f"-tls-ca-cert={made.ca}"]
    port = tls.rpartition(":")[2]
    details = {"tls": {"version": re.compile(f".*{re.escape(version)}"), "cipher": re.compile(".+"),
                       "not_after": re.compile(f"{made.until:%Y-%m-%d}.*")}}
    cases.healthy(f"{kind}: private CA", tls, ca, details)
    cases.healthy(
        f"{kind}: private CA, localhost", f"localhost:{port}", ca, {"tls": {"server_name": "localhost"}},
        server=server, saw=lambda server: request(server, authority=f"localhost:{port}"),
    )
    cases.healthy(f"{kind}: certificate pinned", tls, ["-tls", f"-tls-ca-cert={made.server}.pem"])
    cases.healthy(f"{kind}: -gzip and -service", tls, [*ca, "-gzip", "-service=" + "u" * 300])
    cases.failure(
        f"{kind}: without -tls", tls, [], 2, "http2", "server-speaks-tls",
        re.compile(re.escape(f"no HTTP/2 from {tls}: ") + "[^\n]+"), re.compile("add -tls[^\n]*"),
    )
    cases.failure(
        f"{kind}: unknown CA", tls, ["-tls", f"-tls-ca-cert={made.other_ca}"], 2,
        "tls", "tls-certificate-unknown-issuer",
        re.compile(re.escape(f"TLS handshake with {tls} failed: ") + "[^\n]+"),
    )
    cases.failure(
        f"{kind}: expired", expired, ca, 2, "tls", "tls-certificate-expired",
        f"TLS handshake with {expired} failed: the certificate expired on {made.expired:%Y-%m-%d} (3 days ago)",
    )
    cases.failure(
        f"{kind}: wrong name", named, ca, 2, "tls", "tls-certificate-wrong-name",
        f"TLS handshake with {named} failed: the certificate is valid for health.internal, not for 127.0.0.1",
        "use -tls-server-name=health.internal",
    )
    cases.healthy(
        f"{kind}: -tls-server-name", named, [*ca, "-tls-server-name=health.internal"],
        {"tls": {"server_name": "health.internal"}},
        server=server, saw=lambda server: request(server, authority="health.internal"),
    )
    cases.failure(
        f"{kind}: -tls-server-name that is wrong", tls, [*ca, "-tls-server-name=health.internal"], 2, "tls",
        "tls-certificate-wrong-name",
        re.compile(
            re.escape(f"TLS handshake with {tls} failed: the certificate is valid for ") + "[^\n]+, not for health.internal"
        ),
    )
    cases.healthy(f"{kind}: -tls-no-verify, expired", expired, ["-tls", "-tls-no-verify"])
    cases.healthy(f"{kind}: -tls-no-verify, wrong name", named, ["-tls", "-tls-no-verify"])
    cases.healthy(
        f"{kind}: -tls-no-verify, -tls-server-name", tls, ["-tls", "-tls-no-verify", "-tls-server-name=other.internal"],
        server=server, saw=lambda server: request(server, authority="other.internal"),
    )
    handshake = re.compile(re.escape(f"TLS handshake with {mtls} failed: ") + "[^\n]+")
    cases.healthy(f"{kind}: client certificate", mtls, [*ca, *made.client])
    cases.healthy(f"{kind}: client certificate, -tls-no-verify", mtls, ["-tls", "-tls-no-verify", *made.client])
    cases.failure(
        f"{kind}: client certificate missing", mtls, ca, 2, "tls", "tls-client-certificate-required", handshake,
        times=30,
    )
    cases.failure(
        f"{kind}: client certificate of a foreign CA", mtls, [*ca, *made.foreign_client], 2, "tls",
        "tls-client-certificate-rejected", handshake, times=30,
    )


class Made:
    """The certificates of one run."""

    def __init__(self, folder):
        ours = certificates.Authority(folder, "ca")
        other = certificates.Authority(folder, "other-ca")
        names = ["localhost", "127.0.0.1"]
        self.until = certificates.TODAY + 50 * certificates.DAY
        self.expired = certificates.TODAY - 3 * certificates.DAY
        self.ca, self.other_ca = ours.file, other.file
        self.server = ours.issue("server", certificates.SERVER, self.until, names)
        self.old_server = ours.issue("old-server", certificates.SERVER, self.expired, names)
        self.named_server = ours.issue("named-server", certificates.SERVER, self.until, ["health.internal"])
        self.client = self._client(ours.issue("client", certificates.CLIENT, self.until))
        self.foreign_client = self._client(other.issue("foreign-client", certificates.CLIENT, self.until))
        self.listeners = [
            f"tls:{self.server}",
            f"tls:{self.old_server}",
            f"tls:{self.named_server}",
            f"mtls:{self.server}:{ours.file}",
        ]

    @staticmethod
    def _client(prefix):
        return [f"-tls-client-cert={prefix}.pem", f"-tls-client-key={prefix}.key"]


def server_cases(cases, kind, command, folder, made, start):
    path = folder / f"{kind}.sock"
    server = start(command, folder, "plaintext", f"unix:{path}", *made.listeners)
    plaintext, _, *tls = server.addresses
    plaintext_cases(cases, f"{kind}, plaintext", server, plaintext)
    list_cases(cases, kind, plaintext, has_list=kind == "grpc-js")
    watch_cases(cases, kind, server, plaintext)
    watch_cases(cases, f"{kind}, TLS", server, tls[0], "-tls", f"-tls-ca-cert={made.ca}")
    watch_cases(cases, f"{kind}, -gzip", server, plaintext, "-gzip")
    restart_case(cases, kind, command, folder, start)
    cases.failure(
        f"{kind}, plaintext: -tls", plaintext, ["-tls", f"-tls-ca-cert={made.ca}"], 2, "tls", "tls-plaintext-server",
        f"TLS handshake with {plaintext} failed: the server does not speak TLS",
        "leave out -tls, or probe the server's TLS port",
    )
    for address in (f"unix:{path}", f"unix://{path}"):
        cases.healthy(
            f"{kind}: {address.replace(str(path), '/SOCKET')}", address,
            server=server, saw=lambda server: request(server, authority="localhost"),
        )
    tls_cases(cases, f"{kind}, TLS", server, made, *tls)

    bare = start(command, folder, "--without-health", "plaintext").addresses[0]
    words = {
        "grpcio": "Method not found!",
        "grpc-js": "The server does not implement the method /grpc.health.v1.Health/Check",
    }
    cases.failure(
        f"{kind}: no health service", bare, [], 3, "rpc", "unimplemented",
        f"health check of {bare} failed: UNIMPLEMENTED: {words[kind]}", UNIMPLEMENTED_HINT,
    )
    return server


def main():
    cases = Cases()
    python = [sys.executable, str(HERE / "server.py")]
    node = ["node", str(HERE / "server.js")]
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = Made(folder)

        def start(command, folder, *listeners):
            server = Server(command, folder, *listeners)
            stack.callback(server.kill)
            server.wait()
            return server

        server_cases(cases, "grpcio", python, folder, made, start)
        server = server_cases(cases, "grpc-js", node, folder, made, start)

        # grpcio has no setting for the version of TLS.
        old = start(["node", "--tls-max-v1.2", *node[1:]], folder, *made.listeners)
        tls_cases(cases, "grpc-js, TLS 1.2", old, made, *old.addresses, version="1.2")

        for what, address, arguments in (
            ("plaintext", server.addresses[0], []),
            ("TLS", server.addresses[2], ["-tls", f"-tls-ca-cert={made.ca}"]),
        ):
            cases.healthy(
                f"grpc-js, {what}: says goodbye", address, arguments,
                server=server, saw=lambda server: equal("GOAWAY", 0, server.next("goaway")["goaway"]),
            )

        # Bound and not listening: refused, and nobody else's.
        with socket.socket() as unheard:
            unheard.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{unheard.getsockname()[1]}"
            cases.failure(
                "nothing listens", address, [], 2, "connect", "connection-refused",
                f"cannot connect to {address}: connection refused",
                re.compile("nothing listens (there|on port [0-9]+ here, but on .+); is the server up, and on this port[?]"),
            )
        cases.failure(
            "no socket", f"unix:{folder}/none", [], 2, "connect", "socket-missing",
            re.compile(re.escape(f"cannot connect to unix:{folder}/none: ") + "[^\n]+"),
        )
    print(f"{cases.passed} passed, {cases.failed} failed")
    sys.exit(cases.failed > 0)


main()
