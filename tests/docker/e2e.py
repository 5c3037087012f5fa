"""Runs the images of docker/ on the engine at DOCKER_HOST, as run has made them: health checks, networks, mounts,
Compose and Envoy, Swarm, Podman, and the walk in docs/container.md.

e2e.py [WORD]: with a word, only the cases that have it in their names. `tests/docker/run [WORD]` calls it.
"""

import concurrent.futures
import contextlib
import datetime
import json
import os
import queue
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import yaml

import podman
import swarm
from commands import ROOT, collect, command, docker, say
from suite import PATIENCE, chosen, expect, outcome, summary, until

# So many cases run at once. They wait more than they work.
AT_ONCE = 4
# Compose as a plugin of Docker's client, or the program before it.
COMPOSE = ["docker", "compose"]
if subprocess.run([*COMPOSE, "version"], capture_output=True).returncode:
    COMPOSE = ["docker-compose"]
HINT_OTHER_PORT = (
    "hint: nothing listens on port 50052 here, but on 0.0.0.0:50051; is the server up, and on this port?"
)


def image(*probe, interval="300ms", timeout="10s", start_period="1ms", retries=2):
    """A server's image with this health check. Docker's own flags know the shell form only."""
    check = json.dumps(["/grpc_health_probe", *probe])
    options = f"--interval={interval} --timeout={timeout} --start-period={start_period} --retries={retries}"
    return docker("build", "--quiet", "-", stdin=f"FROM health_server\nHEALTHCHECK {options} CMD {check}\n")


class HealthChanges:
    """Each change of the health of each container, and the runs of its check that Docker keeps at that time: the last five."""

    def __init__(self):
        self.queues = {}
        # Docker tells the last 256 events of all containers to those who ask afterwards, so this listens from the beginning.
        self.events = subprocess.Popen(
            ["docker", "events", f"--since={time.time():.6f}", "--filter=event=health_status", "--format={{json .}}"],
            stdout=subprocess.PIPE, text=True,
        )
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.events.stdout:
            event = json.loads(line)
            name = event["Actor"]["ID"]
            kept = subprocess.run(["docker", "inspect", "--format={{json .State.Health.Log}}", name],
                                  capture_output=True, text=True)
            # A container that is gone has nobody who waits for its health.
            if kept.returncode == 0:
                health = event["Action"].removeprefix("health_status: ")
                self.of(name).put((health, event["timeNano"] / 1e9, json.loads(kept.stdout)))

    def of(self, name):
        return self.queues.setdefault(name, queue.Queue())


class Container:
    """A container that runs, with the changes of its health."""

    def __init__(self, *arguments):
        self.follow(docker("run", "--detach", *arguments))

    @classmethod
    def of(cls, name):
        """One that runs already."""
        self = cls.__new__(cls)
        self.follow(name)
        return self

    def follow(self, name):
        self.name = name
        self.changes = self.health_changes.of(name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        docker("rm", "--force", "--volumes", self.name)

    def inspect(self, path):
        return json.loads(docker("inspect", "--format={{json %s}}" % path, self.name))

    def becomes(self, health):
        """Waits for this health; returns the runs of the check that it follows from, and when it was."""
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                changed, when, kept = self.changes.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                state = json.dumps(self.inspect(".State"), indent=1)
                raise AssertionError(f"is not {health} after {PATIENCE} s: {state}\n{self.output()}") from None
            if changed == health:
                break
        ended = [run for run in kept if moment(run["End"]) <= when + 0.001]
        say(health, json.dumps(ended[-1] if ended else None, ensure_ascii=False))
        return ended, when

    def healthy(self):
        runs, _ = self.becomes("healthy")
        expect((runs[-1]["ExitCode"], runs[-1]["Output"]), (0, "status: SERVING\n"))

    def unhealthy(self, first_line, *more, code=1):
        runs, when = self.becomes("unhealthy")
        lines = runs[-1]["Output"].splitlines()
        expect((runs[-1]["ExitCode"], lines[:1], lines[1:]), (code, [first_line], list(more)))
        return runs, when

    def signal(self, name):
        docker("kill", f"--signal={name}", self.name)

    def output(self):
        return command("sh", "-c", f"docker logs --tail 20 {self.name} 2>&1")


def moment(text):
    """Docker's time, which has more digits than Python reads, in seconds."""
    text = re.sub(r"\.(\d+)", lambda digits: "." + digits[1][:6].ljust(6, "0"), text)
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def run(*arguments, code=0):
    """Runs a container to its end: what it printed, when it ended with this code."""
    ran = subprocess.run(["docker", "run", "--rm", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    output = ran.stdout + ran.stderr
    expect((ran.returncode, output if ran.returncode != code else ""), (code, ""))
    say(" ".join(output.splitlines())[:300])
    return output


@contextlib.contextmanager
def network(name):
    docker("network", "create", name)
    try:
        yield
    finally:
        docker("network", "rm", name)


# One container


def starting_then_healthy():
    with Container(image("-addr=:50051", "-timeout=2s", interval="5s")) as server:
        expect(server.inspect(".State.Health.Status"), "starting")
        server.healthy()


def pattern_of_the_app_dockerfile():
    check = json.loads(docker("inspect", "--format={{json .Config.Healthcheck}}", "health_server"))
    expect(check["Test"], ["CMD", "/grpc_health_probe", "-addr=:50051", "-timeout=2s"])
    expect(docker("inspect", "--format={{.Config.User}}", "health_server"), "65532:65532")
    with Container("health_server") as server:
        server.healthy()


def the_probe_in_its_image():
    labels = json.loads(docker("inspect", "--format={{json .Config.Labels}}", "grpc_health_probe"))
    expect(labels["org.opencontainers.image.title"], "grpc_health_probe")
    expect(docker("inspect", "--format={{.Config.User}}", "grpc_health_probe"), "65532:65532")
    # Ours, and those of the Go tool's images. They are one file, in one layer.
    paths = ["/grpc_health_probe", "/bin/grpc_health_probe", "/ko-app/grpc-health-probe"]
    layers = docker("history", "--human=false", "--format={{.Size}}", "grpc_health_probe").split()
    sizes = [int(size) for size in layers if size != "0"]
    for path in paths:
        assert "-addr" in run(f"--entrypoint={path}", "grpc_health_probe", "-help")
        for buildkit in ["0", "1"]:
            own = command("env", f"DOCKER_BUILDKIT={buildkit}", "docker", "build", "--quiet", "-", stdin=(
                f"FROM scratch\nCOPY --from=grpc_health_probe {path} /p\nENTRYPOINT [\"/p\"]\n"))
            assert "-addr" in run(own, "-help")
            expect([int(docker("image", "inspect", "--format={{.Size}}", own))], sizes)
    expect(int(docker("image", "inspect", "--format={{.Size}}", "grpc_health_probe")), sizes[0])
    assert "connection refused" in run("grpc_health_probe", "-addr=:1", code=1)


def not_serving():
    with Container(image("-addr=:50051", "-timeout=2s", interval="1s", retries=3)) as server:
        server.healthy()
        changed = time.time()
        server.signal("USR1")
        runs, when = server.unhealthy('service unhealthy (responded with "NOT_SERVING")')
        expect([run["ExitCode"] for run in runs[-3:]], [1, 1, 1])
        assert changed <= moment(runs[-3]["End"]) <= when, (changed, runs, when)
        server.signal("USR2")
        server.healthy()


def stopped():
    with Container(image("-addr=:50051", "-timeout=2s")) as server:
        server.healthy()
        server.signal("STOP")
        server.unhealthy(
            "error: no HTTP/2 from :50051: connected, but the server sent nothing within 1s",
            "hint: the server is stuck, or waits for TLS (try -tls), or this is not its gRPC port",
        )
        server.signal("CONT")
        server.healthy()


def wrong_port():
    with Container(image("-addr=:50052", "-timeout=2s")) as server:
        refused = "error: cannot connect to :50052: connection refused (127.0.0.1:50052)"
        runs, _ = server.becomes("unhealthy")
        expect(runs[-1]["ExitCode"], 1)
        assert runs[-1]["Output"].startswith(refused[:-1]), runs[-1]
        assert runs[-1]["Output"].endswith(HINT_OTHER_PORT + "\n"), runs[-1]
        docker("exec", "--detach", server.name, "/health_server", "--addr=0.0.0.0:50052")
        server.healthy()


def a_diagnosis_advises_a_health_check():
    with Container(image("-addr=:50051", "-timeout=2s")) as server:
        server.healthy()
        ran = docker("exec", server.name, "/grpc_health_probe", "-diagnose", "-addr=:50051", "-output=json")
        advice = json.loads(ran)["advice"]
        page = docker("exec", server.name, "/grpc_health_probe", "-diagnose", "-addr=:50051")
    with Container(image(*advice["healthcheck"])) as server:
        server.healthy()
    # The line as it is printed, which may be broken.
    line = re.search(r"^ *(HEALTHCHECK (?:.*\\\n)*.*)$", page, re.MULTILINE)[1]
    with Container(docker("build", "--quiet", "-", stdin=f"FROM health_server\n{line}\n")) as server:
        server.healthy()


def diagnosis(*run):
    """The verdict of a diagnosis, and the line that says what to use."""
    ran = subprocess.run(["docker", *run, "-output=json"], capture_output=True, text=True, timeout=PATIENCE)
    diagnosed = json.loads(ran.stdout)
    verdict = diagnosed["verdict"]
    expect(ran.returncode, 0 if verdict["healthy"] else 1)
    say(" ".join(run), "->", verdict.get("kind"), "|", verdict.get("hints"))
    return verdict


def a_diagnosis_of_each_situation():
    """What people look for with ss, nc, nslookup and openssl, in containers that have none of them."""
    probe = ["/grpc_health_probe", "-diagnose"]
    docker("volume", "create", "certificates")
    mount = "--volume=certificates:/certificates"

    def server(name, *arguments):
        network_alias = f"--network-alias={name}"
        return Container("--network=shop", network_alias, "--no-healthcheck", mount, "health_server", *arguments)

    def tls(directory, *more):
        return ["--addr=0.0.0.0:50051", f"--tls-cert=/certificates/{directory}/server.pem",
                f"--tls-key=/certificates/{directory}/server.key", *more]

    try:
        for directory, *more in [("good",), ("old", "--valid-for=0")]:
            run(mount, "--entrypoint=/make-certificates", "health_server", f"--directory=/certificates/{directory}",
                "--name=payment", *more)
        with contextlib.ExitStack() as stack:
            stack.enter_context(network("shop"))
            start = lambda *arguments: stack.enter_context(server(*arguments))
            cart = start("cart")
            stock = start("stock", "--addr=127.0.0.1:50051")
            payment = start("payment", *tls("good"))
            old = start("old", *tls("old"))
            strict = start("strict", *tls("good", "--client-ca=/certificates/good/ca.pem"))
            inside = lambda container, *flags: diagnosis("exec", container.name, *probe, *flags)
            alone = lambda *flags: diagnosis("run", "--rm", "grpc_health_probe", "-diagnose", *flags)
            until(lambda: expect(inside(cart, "-addr=:50051")["healthy"], True))
            verdict = inside(cart, "-addr=:50052")
            expect(verdict["kind"], "connection-refused")
            assert "nothing listens on port 50052 here, but on" in verdict["hints"][0], verdict
            verdict = inside(stock, "-addr=stock:50051")
            expect(verdict["kind"], "connection-refused")
            assert verdict["hints"][0].startswith("127.0.0.1:50051 accepts connections"), verdict
            expect(alone("-addr=cart:50051")["kind"], "name-not-found")
            expect(inside(cart, "-addr=payment:50051")["hints"], ["add -tls"])
            verdict = inside(cart, "-addr=cart:50051", "-tls")
            expect(verdict["kind"], "tls-plaintext-server")
            trusted = ["-tls", "-tls-ca-cert=/certificates/good/ca.pem"]
            verdict = inside(payment, "-addr=:50051", *trusted)
            expect((verdict["kind"], verdict["hints"]),
                   ("tls-certificate-wrong-name", ["use -tls-server-name=payment"]))
            expect(inside(cart, "-addr=payment:50051", *trusted)["healthy"], True)
            of_old = ["-tls", "-tls-ca-cert=/certificates/old/ca.pem", "-tls-server-name=payment"]
            expect(inside(old, "-addr=:50051", *of_old)["kind"], "tls-certificate-expired")
            verdict = inside(strict, "-addr=:50051", *trusted, "-tls-server-name=payment")
            expect(verdict["kind"], "tls-client-certificate-required")
            expect(inside(cart, "-addr=:50051", "-service=nope")["kind"], "service-unknown")
            expect(alone("-addr=unix:/sockets/health.sock")["kind"], "socket-missing")
            cart.signal("USR1")
            until(lambda: expect(inside(cart, "-addr=:50051").get("kind"), "not-serving"))
    finally:
        docker("volume", "rm", "--force", "certificates")


def own_time_out_before_dockers():
    with Container(image("-addr=:50051", "-rpc-timeout=1m", "-timeout=1s", timeout="20s"),
                   "--addr=0.0.0.0:50051", "--delay=60000") as server:
        server.unhealthy("error: health check of :50051 timed out after 1s: connected, no answer")


def dockers_time_out_before_our_own():
    # What users see who give the probe more time than Docker gives it: Docker's words, and its own code.
    with Container(image("-addr=:50051", "-rpc-timeout=1m", timeout="1s"),
                   "--addr=0.0.0.0:50051", "--delay=60000") as server:
        server.unhealthy("Health check exceeded timeout (1s)", code=-1)


def with_next_to_nothing():
    restrictions = ["--read-only", "--user=65534:65534", "--cap-drop=ALL", "--security-opt=no-new-privileges",
                    "--network=none", "--memory=8m", "--memory-swap=8m", "--cpus=0.05", "--pids-limit=16"]
    with Container(*restrictions, image("-addr=:50051", "-connect-timeout=5s", "-rpc-timeout=5s")) as server:
        server.healthy()
        server.signal("USR1")
        server.unhealthy('service unhealthy (responded with "NOT_SERVING")')


def without_ipv6():
    with Container("--sysctl=net.ipv6.conf.all.disable_ipv6=1", image("-addr=localhost:50051")) as server:
        server.healthy()


def with_the_environment_alone():
    with Container("--env=GRPC_HEALTH_PROBE_ADDR=:50051", "--env=GRPC_HEALTH_PROBE_TIMEOUT=2s", image()) as server:
        server.healthy()


def output_is_what_docker_keeps():
    services = [f"-service={'x' * 100}{number}" for number in range(60)]
    with Container(image("-addr=:50051", *services)) as server:
        runs, _ = server.becomes("unhealthy")
        expect(runs[-1]["ExitCode"], 1)
        assert 3000 < len(runs[-1]["Output"].encode()) <= 4096, len(runs[-1]["Output"])
        # Docker would end a longer one with dots.
        assert not runs[-1]["Output"].endswith("..."), runs[-1]["Output"][-100:]


# Containers that meet


def names_from_dockers_dns():
    with network("market"), Container("--network=market", "--network-alias=cart", "health_server") as cart:
        cart.healthy()
        expect(run("--network=market", "grpc_health_probe", "-addr=cart:50051"), "status: SERVING\n")
        expect(
            run("--network=market", "grpc_health_probe", "-addr=crat:50051", code=1),
            'error: cannot resolve "crat": no such host\n'
            "hint: if it is a container's name, both must share a network (not the engine's default bridge)\n",
        )


def a_unix_socket_on_a_volume():
    docker("volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs", "--opt=o=uid=65532", "sockets")
    try:
        mount = "--mount=source=sockets,target=/sockets"
        probe = "-addr=unix:/sockets/health.sock"
        with Container(mount, image(probe), "--unix=/sockets/health.sock") as server:
            server.healthy()
            expect(run(mount, "--network=none", "grpc_health_probe", probe), "status: SERVING\n")
        expect(
            run("grpc_health_probe", probe, code=1),
            "error: cannot connect to unix:/sockets/health.sock: no such file\n"
            "hint: is the server up, and is the directory of its socket mounted here?\n",
        )
    finally:
        docker("volume", "rm", "sockets")


# Compose


class Composition:
    """A Compose file, up until the end of a `with`."""

    def __init__(self, file, project, **environment):
        words = ["env", *(f"{name}={value}" for name, value in environment.items())]
        self.words = [*words, *COMPOSE, f"--project-name={project}", f"--file=docker/{file}"]

    def __call__(self, *arguments):
        return command(*self.words, *arguments)

    def __enter__(self):
        try:
            self("up", "--detach")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self("down", "--volumes", "--remove-orphans", "--timeout=1")

    def service(self, name):
        return Container.of(self("ps", "--quiet", name))


def tls_by_flags_and_by_environment():
    with Composition("compose.tls.yaml", "tls") as compose:
        tls, mtls = compose.service("tls"), compose.service("mtls")
        tls.healthy()
        mtls.healthy()

        # A second `up` changes nothing.
        compose("up", "--detach")
        expect([server.inspect(".State.Health.Status") for server in [tls, mtls]], ["healthy", "healthy"])

        # New certificates from a new CA, which the servers have not read yet. The probe has.
        renew = ["run", "--rm", "--entrypoint=/make-certificates", "certificates", "--directory=/certificates",
                 "--renew", "--name=localhost"]
        compose(*renew)
        for server in [tls, mtls]:
            server.unhealthy(
                "error: TLS handshake with localhost:50051 failed: the certificate is signed by another key than that "
                "of CN=Example CA in -tls-ca-cert",
                "hint: was the CA, or one in between, renewed? the server's certificate and the CA's must belong together",
            )
            docker("restart", "--time=0", server.name)
            server.healthy()

        docker("stop", "--time=0", tls.name)
        compose(*renew, "--valid-for=0")
        docker("start", tls.name)
        runs, _ = tls.becomes("unhealthy")
        expect(runs[-1]["ExitCode"], 1)
        today = datetime.datetime.now(datetime.timezone.utc).date()
        line = f"error: TLS handshake with localhost:50051 failed: the certificate expired on {today} ("
        assert runs[-1]["Output"].startswith(line), runs[-1]


def envoy_and_three_servers():
    with Composition("compose.yaml", "balanced", GRPC_PORT=0, HTTP_PORT=0) as compose:
        servers = {name: compose.service(name) for name in ["backend-1", "backend-2", "backend-3"]}
        envoy = compose.service("envoy")
        for server in servers.values():
            _, healthy_since = server.becomes("healthy")
            assert healthy_since <= moment(envoy.inspect(".State.StartedAt")), "Envoy started before its servers"

        def check(*arguments, code=0):
            ran = subprocess.run([*compose.words, "run", "--rm", "--no-deps", "-T", "check", *arguments], capture_output=True,
                                 text=True, timeout=PATIENCE, cwd=ROOT)
            expect((ran.returncode, ran.stderr if ran.returncode != code else ""), (code, ""))
            say(" ".join(arguments), "->", ran.stdout.strip())
            # Compose itself writes to standard error, too.
            return ran.stdout + "".join(re.findall("^(?:error|hint): .*\n", ran.stderr, re.MULTILINE))

        # The command in the file, which gives Envoy time to find its servers.
        expect(check(), "status: SERVING\n")
        for name in servers:
            expect(check(f"-addr={name}:50051"), "status: SERVING\n")

        json_url = f"http://{compose('port', 'envoy', '8080')}/grpc.health.v1.Health/Check"
        addresses = {
            name: server.inspect(".NetworkSettings.Networks.balanced_default.IPAddress") + ":50051"
            for name, server in servers.items()
        }
        rotates_over(json_url, set(addresses.values()))

        servers["backend-2"].signal("USR1")
        servers["backend-2"].unhealthy('service unhealthy (responded with "NOT_SERVING")')
        rotates_over(json_url, {addresses["backend-1"], addresses["backend-3"]})
        expect(check("-addr=envoy:50051"), "status: SERVING\n")
        expect(check("-addr=backend-2:50051", code=1), 'service unhealthy (responded with "NOT_SERVING")\n')

        for name in ["backend-1", "backend-3"]:
            servers[name].signal("USR1")
            servers[name].unhealthy('service unhealthy (responded with "NOT_SERVING")')
        until(lambda: expect(ask(json_url)[0], 503))
        expect(
            check("-addr=envoy:50051", code=1),
            "error: health check of envoy:50051 failed: UNAVAILABLE: no healthy upstream\n",
        )
        page = check("-diagnose", "-addr=envoy:50051", code=1)
        assert '\n  a proxy answers  its header server is "envoy"\n' in page, page
        for server in servers.values():
            server.signal("USR2")
            server.healthy()
        rotates_over(json_url, set(addresses.values()))


def ask(url):
    """Asks for health in JSON, as curl would: HTTP status, answer, and the server that gave it."""
    request = urllib.request.Request(url, b"{}", {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.load(answer), answer.headers["x-backend"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), None


def rotates_over(url, addresses):
    """Waits until just these servers answer, each in its turn."""

    def look():
        answers = [ask(url) for _ in range(12)]
        assert all(answer[:2] == (200, {"status": "SERVING"}) for answer in answers), answers
        expect({address for _, _, address in answers}, addresses)

    until(look)
    say("Envoy rotates over", ", ".join(sorted(addresses)))


# The documentation


def the_walk_inside_a_container():
    """Runs each command of docs/container.md, and compares what is printed to what is shown, times and addresses apart."""
    text = (ROOT / "docs/container.md").read_text()
    transcript = "\n".join(re.findall(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    steps = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n?)*)", transcript, re.MULTILINE)
    assert len(steps) > 8, steps
    try:
        for words, shown in steps:
            ran = subprocess.run(words, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                                 timeout=PATIENCE, cwd=ROOT)
            # Of a pipe, the shell returns what its last command does.
            failed = " | " not in words and re.search("^(error: |service unhealthy)", shown, re.MULTILINE) is not None
            expect((words, ran.returncode), (words, int(failed)))
            if "docker run --detach" in words:
                until(lambda: expect("listening on" in docker("logs", ran.stdout.strip()), True))
            if shown.strip():
                say(words)
                assert shape(ran.stdout) == shape(shown), f"$ {words}\nexpected\n{shown}\ngot\n{ran.stdout}"
    finally:
        # What the walk has left if it did not come to its end.
        for kind in [["rm", "--force"], ["volume", "rm", "--force"], ["network", "rm"]]:
            names = re.findall(r"\bdemo-[a-z]+", transcript)
            subprocess.run(["docker", *kind, *sorted(set(names))], capture_output=True)


def shape(output):
    """The lines without times and addresses, in any order: of two streams, Docker passes on now one first, now the other."""
    output = re.sub(r"\b\d+(\.\d+)?(µs|ms|s)\)", "TIME)", output)
    output = re.sub(r"\b(172|192\.168)(\.\d+){2,3}\b", "ADDRESS", output)
    # Search domains are those of the machine that Docker runs on.
    output = re.sub(r"^  search domains .*\n(   .*\n)*", "", output, flags=re.MULTILINE)
    return sorted(output.strip().splitlines())


def a_restricted_pod():
    deployment, _ = yaml.safe_load_all((ROOT / "docker/kubernetes.yaml").read_text())
    pod = deployment["spec"]["template"]["spec"]
    expect((pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["seccompProfile"]["type"]),
           (True, "RuntimeDefault"))
    for container in pod["initContainers"] + pod["containers"]:
        context = container["securityContext"]
        expect(
            (context["allowPrivilegeEscalation"], context["readOnlyRootFilesystem"], context["capabilities"]["drop"]),
            (False, True, ["ALL"]),
        )
    # The init container's words are understood: it gets as far as the name, which is not known here.
    wait = run("grpc_health_probe", *pod["initContainers"][0]["args"], "-timeout=1s", code=1)
    assert 'error: cannot resolve "stock": no such host (' in wait, wait
    expect(sorted(name for name in pod["containers"][0] if name.endswith("Probe")),
           ["livenessProbe", "readinessProbe", "startupProbe"])


# The longest first, as several run at once.
CASES = [
    swarm.a_rolling_update_that_rolls_back,
    podman.podman_as_root,
    envoy_and_three_servers,
    tls_by_flags_and_by_environment,
    the_walk_inside_a_container,
    podman.podman_as_another_user,
    a_diagnosis_of_each_situation,
    the_probe_in_its_image,
    starting_then_healthy,
    pattern_of_the_app_dockerfile,
    not_serving,
    stopped,
    wrong_port,
    a_diagnosis_advises_a_health_check,
    own_time_out_before_dockers,
    dockers_time_out_before_our_own,
    with_next_to_nothing,
    without_ipv6,
    with_the_environment_alone,
    output_is_what_docker_keeps,
    names_from_dockers_dns,
    a_unix_socket_on_a_volume,
    a_restricted_pod,
]


def outcome_with_words(case):
    """Runs a case: whether it passed, and what to print, with what it said."""
    said = collect()
    passed, (first, *why) = outcome(case)
    return passed, "\n".join([first, *said, *why])


def main():
    assert os.environ.get("DOCKER_HOST"), "DOCKER_HOST must name an engine: tests/docker/run starts one"
    Container.health_changes = HealthChanges()
    passed = []
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
        runs = [threads.submit(outcome_with_words, case) for case in chosen(CASES, sys.argv[1:])]
        for done in concurrent.futures.as_completed(runs):
            has_passed, text = done.result()
            passed.append(has_passed)
            print(text, flush=True)
    Container.health_changes.events.kill()
    swarm.leave()
    return summary(passed)


sys.exit(main())
