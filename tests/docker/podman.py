"""Podman runs the images: their health checks as root and as another user, the forms of a health check, and the unit of
docker/grpc-health.container. Storage and settings are of its own, and gone afterwards."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

from commands import ROOT, command, docker, say
from suite import PATIENCE, expect, until

# A user that no system has, and that has other users for its containers.
USER = 64999
# crun does not run on all layouts of cgroups that Docker runs on. Limits are those that any machine allows.
CONTAINERS_CONF = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
lock_type = "file"
tmp_dir = "{0}/libpod/tmp"
"""
STORAGE_CONF = """
[storage]
driver = "vfs"
graphroot = "{0}/data"
rootless_storage_path = "{0}/data"
runroot = "{0}/run"
"""
# Becomes the user, in mounts of its own where the system knows the user.
BECOME = """
cd "$1"
for file in passwd group subuid subgid; do mount --bind "$file" "/etc/$file"; done
user=$2
shift 2
exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"
"""
CHECK = ["/grpc_health_probe", "-addr=:50051", "-timeout=2s"]
NOT_SERVING = 'service unhealthy (responded with "NOT_SERVING")'
# The option of `podman run` that Quadlet makes of each key of the unit.
OPTIONS_OF_KEYS = {
    "PublishPort": "--publish",
    "ReadOnly": "--read-only --read-only-tmpfs=false",
    "NoNewPrivileges": "--security-opt=no-new-privileges",
    "DropCapability": "--cap-drop",
    "HealthCmd": "--health-cmd",
    "HealthInterval": "--health-interval",
    "HealthTimeout": "--health-timeout",
    "HealthRetries": "--health-retries",
    "HealthStartPeriod": "--health-start-period",
    "HealthOnFailure": "--health-on-failure",
}


class Podman:
    """Podman with the images of docker/, until the end of a `with`."""

    def __init__(self, user=0):
        self.user = user

    def __enter__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="podman-"))
        try:
            self.prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def prepare(self):
        name = f"user-{self.user}"
        files = {
            "containers.conf": CONTAINERS_CONF.format(self.directory),
            "storage.conf": STORAGE_CONF.format(self.directory),
            "passwd": pathlib.Path("/etc/passwd").read_text() + f"{name}:x:{self.user}:{self.user}::{self.directory}:/bin/sh\n",
            "group": pathlib.Path("/etc/group").read_text() + f"{name}:x:{self.user}:\n",
            "subuid": f"{name}:200000:65536\n",
            "subgid": f"{name}:200000:65536\n",
        }
        for file, text in files.items():
            (self.directory / file).write_text(text)
        (self.directory / "context").mkdir()
        os.chown(self.directory, self.user, self.user)
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": self.directory,
            "XDG_RUNTIME_DIR": self.directory,
            "CONTAINERS_CONF": self.directory / "containers.conf",
            "CONTAINERS_STORAGE_CONF": self.directory / "storage.conf",
            # The cases call the health checks; no timer of systemd does.
            "DISABLE_HC_SYSTEMD": "true",
        }
        self.words = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), "podman"]
        if self.user:
            self.words = ["unshare", "--mount", "sh", "-ec", BECOME, "sh", str(self.directory), str(self.user), *self.words]
        images = ["health_server", "grpc_health_probe"]
        docker("save", "--output", str(self.directory / "images"), *images)
        (self.directory / "images").chmod(0o644)
        self("load", "--quiet", "--input", str(self.directory / "images"))

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError):
            self("rm", "--force", "--all", "--time=0")
        # A process without root holds the namespaces of its user.
        for file in self.directory.glob("libpod/tmp/pause.pid"):
            os.kill(int(file.read_text()), signal.SIGKILL)
        shutil.rmtree(self.directory)

    def __call__(self, *arguments):
        return command(*self.words, *arguments)

    def build(self, dockerfile, *options):
        (self.directory / "context/Dockerfile").write_text(dockerfile)
        return self("build", "--quiet", *options, str(self.directory / "context"))

    @contextlib.contextmanager
    def container(self, *arguments):
        name = self("run", "--detach", "--network=none", "--log-driver=k8s-file", *arguments)
        try:
            until(lambda: expect("listening on" in self("logs", name), True))
            yield name
        finally:
            self("rm", "--force", "--time=0", name)

    def inspect(self, name, path):
        return json.loads(self("inspect", "--format={{json %s}}" % path, name))

    def check(self, name, code=0):
        """Runs the container's health check once; returns what Podman keeps of that run."""
        ran = subprocess.run([*self.words, "healthcheck", "run", name], capture_output=True, text=True, timeout=PATIENCE)
        expect((ran.returncode, ran.stderr if ran.returncode != code else ""), (code, ""))
        last = self.inspect(name, ".State.Health.Log")[-1]
        say(json.dumps(last, ensure_ascii=False))
        return last


def podman_as_root():
    with Podman() as podman:
        health(podman)
        formats_of_images(podman)
        forms_of_the_health_command(podman)
        failures_of_the_start_do_not_count(podman)
        only_our_own_timeout_ends_the_probe(podman)
        the_unit_for_quadlet(podman)


def podman_as_another_user():
    with Podman(USER) as podman:
        expect(podman("info", "--format={{.Host.Security.Rootless}}"), "true")
        health(podman)


def health(podman):
    # The start period of the image would keep the failures of its first seconds from counting.
    image = podman.build(f"FROM health_server\nHEALTHCHECK --start-period=1ms --retries=2 CMD {json.dumps(CHECK)}\n",
                         "--format=docker")
    with podman.container(image) as server:
        status = lambda: podman.inspect(server, ".State.Health.Status")
        expect(podman.check(server)["Output"], "status: SERVING")
        expect(status(), "healthy")
        podman("kill", "--signal=USR1", server)
        for _ in range(2):
            last = until(lambda: podman.check(server, code=1))
            expect((last["ExitCode"], last["Output"]), (1, NOT_SERVING))
        expect(status(), "unhealthy")
        podman("kill", "--signal=USR2", server)
        expect(until(lambda: podman.check(server))["Output"], "status: SERVING")
        expect(status(), "healthy")
        podman("kill", "--signal=STOP", server)
        expect(
            podman.check(server, code=1)["Output"].splitlines(),
            ["error: no HTTP/2 from :50051: connected, but the server sent nothing within 1s",
             "hint: the server is stuck, or waits for TLS (try -tls), or this is not its gRPC port"],
        )
        podman("kill", "--signal=CONT", server)


def formats_of_images(podman):
    dockerfile = f"FROM scratch\nCOPY --from=grpc_health_probe /ko-app/grpc-health-probe /p\nHEALTHCHECK CMD {json.dumps(CHECK)}\n"
    for form, kept in [("docker", {"Test": ["CMD", *CHECK]}), ("oci", None)]:
        image = podman.build(dockerfile, f"--format={form}")
        expect((form, podman.inspect(image, ".HealthCheck")), (form, kept))
        assert "-addr" in podman("run", "--rm", "--network=none", "--entrypoint=/p", image, "-help")


def forms_of_the_health_command(podman):
    """What docs/podman.md says of them."""
    address = "--env=GRPC_HEALTH_PROBE_ADDR=:50051"
    probe = "/grpc_health_probe"
    broken = '["CMD","/grpc_health_probe","-addr=:50051"]'
    # What Podman makes of a form, and what the check says.
    for form, understood, said in [
        ('["/grpc_health_probe","-addr=:50051"]', ["CMD", probe, "-addr=:50051"], "status: SERVING"),
        (f"CMD {probe} -addr=:50051", ["CMD", probe, "-addr=:50051"], "status: SERVING"),
        (f"CMD {probe}", ["CMD", probe], "status: SERVING"),
        (f'CMD {probe} -service="a b"', ["CMD", probe, '-service="a', 'b"'], "error: "),
        (broken, [broken], ""),
        (f'["{probe}"]', ["CMD-SHELL", probe], ""),
        (probe, ["CMD-SHELL", probe], ""),
        (f"{probe} -addr=:50051", ["CMD-SHELL", f"{probe} -addr=:50051"], ""),
    ]:
        with podman.container(address, f"--health-cmd={form}", "health_server") as server:
            expect((form, podman.inspect(server, ".Config.Healthcheck.Test")), (form, understood))
            output = podman.check(server, code=0 if said == "status: SERVING" else 1)["Output"]
            assert output.startswith(said) if said else not output, (form, output)


def failures_of_the_start_do_not_count(podman):
    options = [f"--health-cmd={json.dumps(CHECK)}", "--health-start-period=10m", "--health-retries=1"]
    with podman.container(*options, "health_server", "--addr=0.0.0.0:50052") as server:
        expect(podman.check(server, code=1)["ExitCode"], 1)
        expect(podman.inspect(server, ".State.Health.Status"), "starting")


def only_our_own_timeout_ends_the_probe(podman):
    slow = ["health_server", "--addr=0.0.0.0:50051", "--delay=60000"]
    check = ["/grpc_health_probe", "-addr=:50051", "-rpc-timeout=4s"]
    with podman.container("--health-timeout=1s", f"--health-cmd={json.dumps(check)}", *slow) as server:
        # Podman waits until the probe ends by itself, and then calls it late.
        last = podman.check(server, code=125)
        expect((last["ExitCode"], last["Output"]), (-1, "error: health check of :50051 timed out after 4s: connected, no answer"))
    with podman.container("--health-timeout=3s", f"--health-cmd={json.dumps([*check, '-timeout=1s'])}", *slow) as server:
        last = podman.check(server, code=1)
        expect((last["ExitCode"], last["Output"]), (1, "error: health check of :50051 timed out after 1s: connected, no answer"))


def the_unit_for_quadlet(podman):
    """Debian 12 has no Quadlet. This runs the command that Quadlet makes of the unit, without its port: there is no network."""
    section, keys = None, []
    for line in (ROOT / "docker/grpc-health.container").read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Container]" and line and not line.startswith("#"):
            keys.append(line.split("=", 1))
    image, command_line = dict(keys)["Image"], dict(keys)["Exec"]
    options = []
    for key, value in keys:
        if key in ("Image", "Exec"):
            continue
        option = OPTIONS_OF_KEYS[key]
        if option != "--publish":
            options += option.split() if value == "true" else [f"{option}={value}"]
    with podman.container(*options, image, command_line) as server:
        expect(podman.inspect(server, ".Config.Healthcheck.Test"), ["CMD", *CHECK])
        expect(podman.check(server)["Output"], "status: SERVING")
    # The same again, but for the time that a server has to start.
    with podman.container(*options, "--health-start-period=0s", "--health-retries=1", image, command_line) as server:
        podman("kill", "--signal=USR1", server)
        until(lambda: podman.check(server, code=1))
        until(lambda: expect(podman.inspect(server, ".State.Running"), False))
