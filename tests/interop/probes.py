"""Runs the probe, and compares what it does with what is expected of it."""

import json
import re
import shlex
import subprocess
import threading

from servers import PATIENCE

HEALTHY = {"healthy": True, "status": "SERVING", "timings_ms": {"rpc": re.compile(r"[\d.]+")}}
NOT_SERVING = {"healthy": False, "status": "NOT_SERVING", "error": {"phase": "health", "kind": "not-serving"}}
ALL_FLAGS = [["-exit-codes=docker"], ["-exit-codes=detailed"], ["-exit-codes=detailed", "-output=json"]]
DOWN = 'service unhealthy (responded with "NOT_SERVING")\n'
# No limit is what these tests are about, but where a case sets its own: many servers share the machine.
LIMITS = {f"GRPC_HEALTH_PROBE_{limit}_TIMEOUT": f"{PATIENCE - 10}s" for limit in ("CONNECT", "RPC")}


class Watch:
    """A probe that watches, and what it prints on standard output."""

    def __init__(self, probe, address, *arguments):
        command = [probe, "-watch", "-exit-codes=detailed", f"-addr={address}", *arguments]
        self.process = subprocess.Popen(
            command, env=LIMITS, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.killer = threading.Timer(PATIENCE, self.process.kill)
        self.killer.start()

    def expect(self, what, line):
        """The next line, without its time, is this one."""
        equal(what, line.strip(), self._next(what))

    def expect_after(self, what, line, repeated):
        """The next line that does not repeat another is this one."""
        seen = repeated.strip()
        while seen == repeated.strip():
            seen = self._next(what)
        equal(what, line.strip(), seen)

    def _next(self, what):
        seen = self.process.stdout.readline()
        time, _, rest = seen.rstrip("\n").partition(" ")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", time), (
            f"{what}: no line with its time: {seen!r}; stderr: {self.stop()[1] if not seen else ''!r}"
        )
        return rest

    def await_error(self, words):
        """Waits for a line on standard error that has these words."""
        lines = []
        while not any(words in line for line in lines):
            lines.append(self.process.stderr.readline())
            assert lines[-1], f"expected {words!r} in {lines!r}"

    def stop(self):
        """Ends it: its exit code and what it printed on standard error."""
        self.process.terminate()
        _, stderr = self.process.communicate(timeout=PATIENCE)
        self.killer.cancel()
        return self.process.returncode, stderr


class Cell:
    """One case with one server. Its methods run command lines, and fail if one does not as it should."""

    def __init__(self, title, library, server, made, probe, go_tool):
        self.title = title
        self.library = library
        self.server = server
        self.made = made
        self.probe = probe
        self.go_tool = go_tool

    def address(self, listener):
        return self.server.addresses[listener]

    def watch(self, address, *arguments):
        return Watch(self.probe, address, *arguments)

    def case(self, address, arguments=(), code=0, stdout="", stderr="", results=(), saw=None, times=1):
        """One command line, run with each set of exit codes, and with JSON output.

        `code` is the exit code of the detailed set. `stdout` and `stderr` are a text or a pattern; `results` are what
        each line of JSON must have among other things. `saw` is what the server must have seen of the request.
        All of it is done `times` times, for what two processes race for.
        """
        for flags in ALL_FLAGS * times:
            if saw:
                self.server.say()
            command = [self.probe, f"-addr={address}", *flags, *arguments]
            try:
                run = subprocess.run(
                    command, env=LIMITS, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                    timeout=PATIENCE,
                )
            except subprocess.TimeoutExpired:
                raise AssertionError(f"$ {shlex.join(command)}\nstill runs after {PATIENCE} s") from None
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
                    saw(self.server)
                except AssertionError as error:
                    wrong.append(f"the server: {error}")
            if wrong:
                shown = f"exit code {run.returncode}\nstdout: {run.stdout!r}\nstderr: {run.stderr!r}"
                raise AssertionError("\n".join([f"$ {shlex.join(command)}", shown, *wrong]))
        words = stdout if isinstance(stdout, str) and code in (0, 4) else ""
        self.go_tool.compare(f"{self.title} @ {self.library.slug}", address, arguments, code, words)

    def healthy(self, address, arguments=(), result=None, **more):
        self.case(address, arguments, 0, "status: SERVING\n", "", [merge(HEALTHY, result or {})], **more)

    def failure(self, address, arguments, code, phase, kind, message, hint=None, **more):
        """A failure with this line (a text or a pattern), and this hint; without one given, any or none."""
        hint = "(hint: [^\n]+\n)?" if hint is None else f"hint: {text_pattern(hint)}\n"
        stderr = re.compile(f"error: {text_pattern(message)}\n{hint}")
        self.case(address, arguments, code, "", stderr, [failed(phase, kind)], **more)


def failed(phase, kind):
    return {"healthy": False, "error": {"phase": phase, "kind": kind, "message": re.compile(".+")}}


def merge(one, other):
    return {**one, **other}


def text_pattern(text):
    return text.pattern if isinstance(text, re.Pattern) else re.escape(text)


def begins(text):
    """A line that begins like this."""
    return re.compile(re.escape(text) + "[^\n]*")


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


def saw(service="", authority=None, timeout=None, **headers):
    """Looks at the request that a server got. A header that came twice has its values joined, as grpc-js does."""

    def look(server):
        seen = server.next("service")
        # A server may take up late what a case before has given up.
        while seen["service"] == "slow" != service:
            seen = server.next("service")
        equal("service", service, seen["service"])
        if timeout:
            left = seen["timeout"]
            assert timeout - 5 < left < timeout + 0.1, f"deadline: expected about {timeout} s, saw {left} s"
        metadata = {}
        for name, value in seen["metadata"]:
            value = value["base64"].rstrip("=") if isinstance(value, dict) else value
            metadata[name] = f"{metadata[name]}, {value}" if name in metadata else value
        # Only Node shows all that came.
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
                # Some libraries join the values of a header by a comma alone.
                equal(name, value, re.sub(", *", ", ", metadata.get(name, "")))
        if wire:
            if authority:
                equal(":authority", authority, wire[":authority"])
            equal(":path", "/grpc.health.v1.Health/Check", wire[":path"])
            equal("te", "trailers", wire["te"])
            assert wire["content-type"].startswith("application/grpc"), f"content-type: saw {wire['content-type']!r}"
            assert re.fullmatch(r"\d{1,8}[HMSmun]", wire["grpc-timeout"]), f"grpc-timeout: saw {wire['grpc-timeout']!r}"

    return look
