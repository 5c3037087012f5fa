"""Has containerd run the probe in a container, as a kubelet does for an exec probe: by ExecSync of the Container Runtime
Interface, which crictl calls.

cri.py PROBE [WORD...]: with words, only the cases that have them in their names. `tests/cri/run PROBE` calls it.
"""

import json
import os
import pathlib
import subprocess
import sys
import time

sys.path.append(str(pathlib.Path(__file__).parents[1] / "kubelet"))
from node import ROOT, SERVER_IMAGE, SOCKET, command, node
from suite import PATIENCE, expect, run_cases, until

MADE = ROOT / "target/cri"
CRICTL = [MADE / "crictl", "--config=/run/crictl.yaml"]
# What a restricted pod may do.
RESTRICTED = {
    "readonly_rootfs": True,
    "no_new_privs": True,
    "run_as_user": {"value": 65532},
    "capabilities": {"drop_capabilities": ["ALL"]},
    "seccomp": {"profile_type": 0},
}


class Container:
    """A server in a pod of its own, until the end of a `with`."""

    def __init__(self, *arguments):
        self.arguments = arguments

    def __enter__(self):
        pod = self.write("pod", {
            "metadata": {"name": "pod", "uid": "pod", "namespace": "default"},
            "log_directory": "/run/pod",
            "dns_config": {"servers": ["127.0.0.1"]},
            "linux": {"cgroup_parent": os.environ["NODE_CGROUP"]},
        })
        container = self.write("container", {
            "metadata": {"name": "server"},
            "image": {"image": SERVER_IMAGE},
            "args": ["--addr=0.0.0.0:50051", *self.arguments],
            "log_path": "server.log",
            "linux": {"security_context": RESTRICTED, "resources": {"memory_limit_in_bytes": 32 << 20}},
        })
        self.pod = command(*CRICTL, "runp", pod)
        self.id = command(*CRICTL, "create", self.pod, container, pod)
        command(*CRICTL, "start", self.id)
        until(lambda: expect("listening on" in command(*CRICTL, "logs", self.id), True))
        return self

    def __exit__(self, *_):
        command(*CRICTL, "rmp", "--force", self.pod)

    @staticmethod
    def write(name, config):
        file = pathlib.Path(f"/run/{name}.json")
        file.write_text(json.dumps(config))
        return file

    def probe(self, *flags, how=("--sync", "--timeout=10")):
        """What crictl says of the probe, run in the container: standard output, then standard error."""
        words = [*CRICTL, "exec", *how, self.id, "/grpc_health_probe", *flags]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
        # crictl quotes what it says of a failure.
        said = (ran.stdout + ran.stderr).replace('\\"', '"').replace("\\n", "\n").strip()
        print("     ", *how, *flags, "->", " ".join(said.splitlines()))
        return said


def has(said, *parts):
    for part in parts:
        assert part in said, f"expected {part!r}\n     in {said!r}"


# Cases


def healthy_and_not_serving():
    with Container("--service=cart=NOT_SERVING") as server:
        expect(server.probe("-addr=:50051"), "status: SERVING")
        for more, code in [([], 1), (["-exit-codes=detailed"], 4)]:
            # Of an ExecSync that fails, crictl shows standard error only; of an Exec, both.
            has(server.probe("-addr=:50051", "-service=cart", *more), f"exited with {code}: ")
            said = server.probe("-addr=:50051", "-service=cart", *more, how=())
            has(said, 'service unhealthy (responded with "NOT_SERVING")\n', f"command terminated with exit code {code}")


def failures_with_their_reason():
    with Container() as server:
        said = server.probe("-addr=:50052")
        has(said, "exited with 1: error: cannot connect to :50052: connection refused", "\nhint: nothing listens on port 50052")
        said = server.probe("-addr=:50051", "-tls", "-tls-no-verify", "-exit-codes=detailed")
        has(said, "exited with 2: error: TLS handshake with :50051 failed: ")


def whose_time_is_up_first():
    with Container("--delay=3600000") as server:
        said = server.probe("-addr=:50051", "-timeout=1500ms", how=["--sync", "--timeout=5"])
        has(said, "exited with 1: error: health check of :50051 timed out after 1s: connected, no answer")
        began = time.monotonic()
        has(server.probe("-addr=:50051", "-rpc-timeout=1m", how=["--sync", "--timeout=2"]), "timed out after 2s")
        assert time.monotonic() - began < 30, "it is killed in time"
        # By its name, as far as the kernel keeps it.
        expect(subprocess.run(["pgrep", "-x", "grpc_health_pro"], capture_output=True, text=True).stdout, "")


CASES = [healthy_and_not_serving, failures_with_their_reason, whose_time_is_up_first]


def main():
    endpoints = {"runtime-endpoint": SOCKET, "image-endpoint": SOCKET, "timeout": 60}
    pathlib.Path("/run/crictl.yaml").write_text(json.dumps(endpoints))
    with node(MADE, pathlib.Path(sys.argv[1])):
        return run_cases(CASES, sys.argv[2:])


sys.exit(main())
