"""The Go tool beside the probe: on the command lines of the cases, and on those of command_lines.txt.

differences.txt has all differences that may be, by the word under which docs/migration.md may explain them.
"""

import concurrent.futures
import re
import shlex
import subprocess
import threading

from servers import HERE, MADE, PATIENCE

GO_TOOL = MADE / "go-tool" / "grpc-health-probe"
FLAGS = {
    "addr", "service", "user-agent", "connect-timeout", "rpc-header", "rpc-timeout", "tls", "tls-no-verify",
    "tls-ca-cert", "tls-client-cert", "tls-client-key", "tls-server-name", "alts", "v", "gzip", "spiffe",
}
LONG = ["-connect-timeout=20s", "-rpc-timeout=20s"]
WORDS = re.compile(r'(status: SERVING|service unhealthy \(responded with "\w+"\))')


class GoTool:
    """Collects differences."""

    def __init__(self, probe):
        self.probe = probe
        self.compared = 0
        self.different = []
        self.lock = threading.Lock()

    def compare(self, case, address, arguments, code, words):
        """Runs the Go tool as a case has run the probe: `code` and `words` are what that has returned."""
        flags = [argument.lstrip("-").partition("=")[0] for argument in arguments if argument.startswith("-")]
        if not FLAGS.issuperset(flags) or flags.count("service") > 1:
            return
        # Where no connection is to be had, the Go tool waits for one as long as it may.
        limits = [] if code == 2 else LONG
        theirs = outcome([str(GO_TOOL), f"-addr={address}", *limits, *arguments])
        self._note(case, f"{code} {words}".strip() if code in (0, 4) else str(code), theirs)

    def compare_command_lines(self, places):
        """Runs both with each line of command_lines.txt."""
        text = (HERE / "command_lines.txt").read_text()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        assert len(set(lines)) == len(lines), "command_lines.txt has a line twice"

        def compare(line):
            words = shlex.split(re.sub("|".join(places), lambda place: places[place[0]], line))
            ours = outcome([self.probe, "-exit-codes=detailed", *words])
            self._note(line, ours, outcome([str(GO_TOOL), *words]))

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(compare, lines))

    def _note(self, case, ours, theirs):
        with self.lock:
            self.compared += 1
            if ours != theirs:
                self.different.append((ours, theirs, case))

    def problems(self, is_whole):
        """What is not as differences.txt says, which a whole run shows."""
        met = set()
        listed = [entry for *_, entries in sections() for entry in entries]
        problems = []
        for difference in sorted(set(self.different)):
            found = [entry for entry in listed if is_met(entry, difference)]
            met.update(found)
            if not found:
                problems.append(f"not in differences.txt: {' | '.join(difference)}")
        if is_whole:
            problems += [f"differences.txt has what is not so: {' | '.join(entry)}" for entry in listed if entry not in met]
        return problems


def is_met(entry, difference):
    """Patterns have `*` alone: cases have brackets."""
    pattern = ".*".join(re.escape(part) for part in entry[2].split("*"))
    return entry[:2] == difference[:2] and re.fullmatch(pattern, difference[2])


def sections():
    """The sections of differences.txt: the word, the reason, and the entries. An entry has what the probe does, what the Go
    tool does, and the pattern of a case."""
    found = []
    for line in (HERE / "differences.txt").read_text().splitlines():
        if line.startswith("["):
            word, reason = line[1:].split("] ", 1)
            found.append((word, reason, []))
        elif line and not line.startswith("#"):
            found[-1][2].append(tuple(line.split(" | ", 2)))
    return found


def version():
    return re.search(r"grpc-health-probe@(v\S+)", (HERE / "run").read_text()).group(1)


def outcome(command):
    """The exit code, and with it the words of an answer, wherever they are printed."""
    run = subprocess.run(
        command, env={}, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=PATIENCE
    )
    words = WORDS.findall(run.stdout + run.stderr)
    return " ".join([str(run.returncode), *words])
