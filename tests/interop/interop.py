"""Runs the probe against servers on other libraries, and the Go tool beside it: see README.md.

interop.py PROBE [--write] [--only LIBRARY] [--case WORDS]
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import subprocess
import sys
import tempfile

import certificates
import exceptions
import page
import tls_cases  # noqa: F401 They add themselves to CASES, in the order of the table.
import watch_cases  # noqa: F401
from cases import CASES
from go_tool import GoTool
from probes import Cell
from servers import Server, libraries


class Made:
    """The folder and the certificates of one run."""

    def __init__(self, folder, on_end):
        self.folder = folder
        self.on_end = on_end
        ours = certificates.Authority(folder, "ca")
        other = certificates.Authority(folder, "other-ca")
        names = ["localhost", "127.0.0.1"]
        self.until = certificates.TODAY + 50 * certificates.DAY
        self.expired = certificates.TODAY - 3 * certificates.DAY
        self.ca, self.other_ca = ours.file, other.file
        self.server = ours.issue("server", certificates.SERVER, self.until, names)
        self.old_server = ours.issue("old-server", certificates.SERVER, self.expired, names)
        self.named_server = ours.issue("named-server", certificates.SERVER, self.until, ["health.internal"])
        self.prefix = ours.issue("client", certificates.CLIENT, self.until)
        self.client = self._client(self.prefix)
        self.expired_client = self._client(ours.issue("expired-client", certificates.CLIENT, self.expired))
        self.foreign_client = self._client(other.issue("foreign-client", certificates.CLIENT, self.until))

    @staticmethod
    def _client(prefix):
        return [f"-tls-client-cert={prefix}.pem", f"-tls-client-key={prefix}.key"]

    def listeners(self, slug):
        return {
            "plaintext": "plaintext",
            "unix": f"unix:{self.folder}/{slug}.sock",
            "bare": "bare",
            "aged": "aged",
            "strict": "strict",
            "stoppable": "stoppable",
            "tls": f"tls:{self.server}",
            "expired": f"tls:{self.old_server}",
            "named": f"tls:{self.named_server}",
            "mtls": f"mtls:{self.server}:{self.ca}",
            "tls12": f"tls12:{self.server}",
            "mtls12": f"mtls12:{self.server}:{self.ca}",
        }


def run_cases(library, server, made, options, go_tool):
    """All cases with one server: what has failed in each, and the exception that it is, if any."""
    try:
        server.wait()
    except AssertionError as error:
        print(f"FAIL  {library.name}: it does not start\n{error}", flush=True)
        return {title: ("not run", None) for title in CASES}
    warm_up(options.probe, server)
    ended = {}
    for title, run in CASES.items():
        if options.case and options.case not in title:
            continue
        exception = exceptions.find(title, library.slug)
        check = exception[0] if exception else run
        failure = attempt(check, Cell(title, library, server, made, options.probe, go_tool)) if check else None
        ended[title] = (failure, exception)
        if check:
            lines = "".join(f"\n      {line}" for line in (failure or "").splitlines())
            print(f"{'FAIL  ' if failure else 'ok    '}{library.name}: {title}{lines}", flush=True)
    return ended


def attempt(check, cell):
    """Why it fails, if it does."""
    try:
        check(cell)
    except AssertionError as error:
        return str(error)
    except KeyError as error:
        return f"the server has no listener {error}"
    return None


def warm_up(probe, server):
    """A JVM's first answer takes long."""
    ports = [address for name, address in server.addresses.items() if name in ("plaintext", "tls", "stoppable")]
    for address in ports:
        flags = ["-tls", "-tls-no-verify"] if address == server.addresses.get("tls") else []
        subprocess.run(
            [probe, f"-addr={address}", "-wait=60s", "-connect-timeout=20s", "-rpc-timeout=20s", *flags],
            env={}, stdin=subprocess.DEVNULL, capture_output=True,
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("probe", type=os.path.abspath)
    parser.add_argument("--write", action="store_true", help="renew docs/interop.md")
    parser.add_argument("--only", help="with the server on this library alone")
    parser.add_argument("--case", help="with the cases that have these words alone")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        made = Made(folder, stack.callback)
        tested = [library for library in libraries() if options.only in (None, library.slug)]
        servers = []
        for library in tested:
            servers.append(Server(library, folder, made.listeners(library.slug)))
            stack.callback(servers[-1].kill)
        go_tool = GoTool(options.probe)
        with concurrent.futures.ThreadPoolExecutor(len(tested)) as pool:
            runs = [
                pool.submit(run_cases, library, server, made, options, go_tool)
                for library, server in zip(tested, servers)
            ]
            ended = [run.result() for run in runs]
        is_whole = not options.only and not options.case
        if is_whole:
            compare_command_lines(go_tool, servers[[library.slug for library in tested].index("grpc-go")], made)
    wrong = go_tool.problems(is_whole)
    tried = [failure for cases in ended for failure, exception in cases.values() if not exception or exception[0]]
    failed = sum(failure is not None for failure in tried)
    if is_whole and not wrong and not failed:
        wrong += page.check(page.text(tested, ended), options.write)
    for line in wrong:
        print(f"FAIL  {line}")
    print(f"{len(tried)} cases, and {go_tool.compared} command lines with the Go tool beside the probe")
    print(f"{len(tried) - failed + go_tool.compared - len(wrong)} passed, {failed + len(wrong)} failed")
    sys.exit(failed > 0 or bool(wrong))


def compare_command_lines(go_tool, server, made):
    go_tool.compare_command_lines({
        "SERVER": server.addresses["plaintext"], "TLS": server.addresses["tls"], "CLOSED": "127.0.0.1:1",
        "CA": made.ca, "CERT": f"{made.prefix}.pem", "KEY": f"{made.prefix}.key",
    })


main()
