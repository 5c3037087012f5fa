"""Runs the probe against ALTS servers by others. Arguments: the server by grpc-go, the probe, and perhaps the Go tool."""

import json
import pathlib
import queue
import subprocess
import sys
import threading

HERE = pathlib.Path(__file__).parent
GO_SERVER, PROBE, *GO_TOOL = sys.argv[1:]
# C core asks for no other handshaker than that of Google Cloud.
HANDSHAKER = "metadata.google.internal.:8080"
GO, CORE, PLAINTEXT = "127.0.0.1:50051", "127.0.0.1:50052", "127.0.0.1:50053"
PEER = "server@project.iam.gserviceaccount.com"
LIMIT = 20

processes = []
counts = {True: 0, False: 0}


def start(*command):
    """Starts a server and returns a queue with its lines, once it listens."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    processes.append(process)
    lines = queue.Queue()

    def read():
        for line in process.stdout:
            lines.put(line.rstrip("\n"))

    threading.Thread(target=read, daemon=True).start()
    line = lines.get(timeout=LIMIT)
    assert line == "listening", line
    return lines


def python(script, *arguments):
    return start(sys.executable, "-B", str(HERE / script), *arguments)


def run(program, *arguments):
    ran = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=LIMIT, check=False)
    return ran.returncode, ran.stdout, ran.stderr


def probe(*arguments):
    return run(PROBE, "-exit-codes=detailed", *arguments)


def case(name, holds, seen):
    counts[bool(holds)] += 1
    print(f"{'pass' if holds else 'FAIL'}: {name}" + ("" if holds else f"\n      {seen}"))


def check(name, server):
    at, alts = f"-addr={server}", "-alts"
    seen = probe(at, alts)
    case(f"{name}: the server as a whole", seen == (0, "status: SERVING\n", ""), seen)
    seen = probe(at, alts, "-service=up", "-service=down")
    case(f"{name}: two services, of which one is down", seen[0] == 4, seen)
    seen = probe(at, alts, "-service=unknown")
    case(f"{name}: an unknown service", seen[0] == 3 and "NOT_FOUND" in seen[2], seen)
    code, stdout, stderr = probe(at, alts, "-output=json", "-alts-handshaker=127.0.0.1:8080")
    line = json.loads(stdout)
    holds = code == 0 and line["alts"]["peer_service_account"] == PEER and line["timings_ms"]["alts"] > 0
    case(f"{name}: JSON names the peer", holds, (code, stdout, stderr))
    seen = probe(at, alts, "-v")
    case(f"{name}: -v names the peer", seen[0] == 0 and f"peer_service_account={PEER}" in seen[2], seen)
    seen = probe(at, alts, f"-rpc-header=x-long: {'x' * 7000}")
    case(f"{name}: a request of several records", seen[0] == 0, seen)
    seen = probe(at, alts, "-wait=5s", "-all-addresses")
    case(f"{name}: -wait and -all-addresses", seen[0] == 0, seen)
    seen = probe(at, alts, "-watch", "-timeout=500ms")
    case(f"{name}: -watch", "status: SERVING" in seen[1], seen)
    seen = probe(at, alts, "-diagnose")
    holds = seen[0] == 0 and f"handshake with {PEER}" in seen[1] and "the server speaks ALTS" in seen[1]
    case(f"{name}: -diagnose", holds, seen)
    seen = probe(at)
    case(f"{name}: plaintext to an ALTS server fails", seen[0] == 2, seen)
    print(f"      {seen[2].strip()}")
    seen = probe(at, "-tls")
    case(f"{name}: TLS to an ALTS server fails", seen[0] == 2, seen)
    print(f"      {seen[2].strip()}")


def compare(name, server, lines):
    """Holds the probe against the Go tool: exit codes, and what both say to the handshaker."""
    for expected, flags in [(0, []), (4, ["-service=down"]), (3, ["-service=unknown"])]:
        starts, codes = [], []
        for program in [PROBE, GO_TOOL[0]]:
            while not lines.empty():
                lines.get()
            detailed = ["-exit-codes=detailed"] if program == PROBE else []
            codes.append(run(program, f"-addr={server}", "-alts", *flags, *detailed)[0])
            fields = json.loads(lines.get(timeout=LIMIT))
            fields.pop("user_agent")
            starts.append(fields)
        holds = codes == [expected, expected] and starts[0] == starts[1]
        case(f"{name}: as the Go tool {' '.join(flags)}", holds, (codes, starts))
    print(f"      both tell the handshaker {starts[0]}")


try:
    lines = python("handshaker.py", "127.0.0.1:8080")
    start(GO_SERVER, GO, HANDSHAKER)
    python("server.py", CORE, "alts")
    python("server.py", PLAINTEXT, "plaintext")
    check("grpc-go", GO)
    check("C core", CORE)
    seen = probe(f"-addr={GO}", "-alts", "-list")
    case("grpc-go: -list", seen[0] == 4 and "up       SERVING\n" in seen[1], seen)
    seen = probe(f"-addr={PLAINTEXT}", "-alts")
    holds = seen[0] == 2 and "does not speak ALTS: it answered with HTTP/2 in plaintext" in seen[2]
    case("C core: a plaintext server is recognised", holds, seen)
    if GO_TOOL:
        compare("grpc-go", GO, lines)
        compare("C core", CORE, lines)
finally:
    for process in processes:
        process.kill()

print(f"{counts[True]} passed, {counts[False]} failed")
sys.exit(1 if counts[False] or not counts[True] else 0)
