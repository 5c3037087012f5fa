"""Has a real kubelet, without a cluster, ask servers by exec probes and by its own grpc probes, and runs the pod of
docker/kubernetes.yaml.

kubelet.py PROBE [WORD...]: with words, only the cases that have them in their names. `tests/kubelet/run` calls it.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import urllib.request

import yaml

from node import ROOT, SERVER_IMAGE, SOCKET, command, daemon, node, signal_to
from suite import expect, run_cases, until

MADE = ROOT / "target/kubelet"
MANIFESTS = pathlib.Path("/run/manifests")
CERTIFICATES = pathlib.Path("/run/certificates")
API = "http://127.0.0.1:10255"
# The node's own address on the bridge of the pods, where nothing listens on this port.
NOBODY = "10.88.0.1"
CONFIG = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "containerRuntimeEndpoint": SOCKET,
    "staticPodPath": str(MANIFESTS),
    "volumePluginDir": "/run/kubelet/plugins",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "address": "127.0.0.1",
    "readOnlyPort": 10255,
    "cgroupDriver": "cgroupfs",
    "cgroupRoot": os.environ["NODE_CGROUP"],
    "failCgroupV1": False,
    "enforceNodeAllocatable": ["none"],
    "failSwapOn": False,
    "resolvConf": "",
    # However full this machine is.
    "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
    "imageGCHighThresholdPercent": 100,
    "featureGates": {"GRPCContainerProbeTLS": True},
    # Events, which nobody collects here, are in its log.
    "logging": {"format": "json", "verbosity": 3},
}


class Kubelet:
    """What a kubelet at work says."""

    def __init__(self, log):
        self.log = log

    def pods(self):
        with urllib.request.urlopen(f"{API}/pods", timeout=30) as answer:
            pods = json.load(answer)["items"] or []
        return {pod["metadata"]["name"].removesuffix("-node"): pod for pod in pods}

    def events(self, pod, container, reason):
        """The messages of all such events so far."""
        messages = []
        for line in self.log.read_text().splitlines():
            line = json.loads(line) if line.startswith("{") else {}
            if (
                line.get("msg") == "Event occurred"
                and line["object"]["name"] == f"{pod}-node"
                and line["fieldPath"] == f"spec.containers{{{container}}}"
                and line["reason"] == reason
            ):
                messages.append(line["message"])
        return messages

    @contextlib.contextmanager
    def pod(self, name, *containers, **spec):
        """A pod that is there until the end of a `with`."""
        spec = {
            "containers": containers,
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": {"runAsUser": 65532, "runAsGroup": 65532},
        } | spec
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        file = MANIFESTS / f"{name}.json"
        # It must not see half of it.
        unfinished = file.with_name(f".{name}")
        unfinished.write_text(json.dumps(manifest))
        unfinished.rename(file)
        try:
            yield Pod(self, name)
        finally:
            file.unlink()
            until(lambda: expect(name in self.pods(), False))


class Pod:
    def __init__(self, kubelet, name):
        self.kubelet, self.name = kubelet, name

    def status(self):
        pods = self.kubelet.pods()
        assert self.name in pods, f"there is no pod {self.name} yet"
        return pods[self.name]["status"]

    def container(self, name, kind="containerStatuses"):
        status = self.status()
        named = [container for container in status.get(kind, []) if container["name"] == name]
        assert named, f"there is no container {name} yet: {status}"
        return named[0]

    def address(self):
        address = self.status().get("podIP")
        assert address, "it has no address yet"
        return address

    def is_ready(self, name, wanted=True):
        def look():
            container = self.container(name)
            assert container["ready"] == wanted, container

        until(look)

    def events(self, name, reason="Unhealthy", at_least=1):
        """The messages of these events, when there are as many."""

        def look():
            messages = self.kubelet.events(self.name, name, reason)
            assert len(messages) >= at_least, messages
            return messages

        messages = until(look)
        print("     ", f"{self.name}/{name}", reason, json.dumps(messages[-1]))
        return messages

    def signal(self, name, signal):
        signal_to(self.container(name)["containerID"].removeprefix("containerd://"), signal)


def server(name, port, *arguments, address="0.0.0.0", **probes):
    return {
        "name": name,
        "image": SERVER_IMAGE,
        "imagePullPolicy": "Never",
        "args": [f"--addr={address}:{port}", *arguments],
        **probes,
    }


def asks(handler, **settings):
    """A probe that a single answer satisfies, either way, each second."""
    return handler | {"periodSeconds": 1, "failureThreshold": 1, "timeoutSeconds": 5} | settings


def executes(*flags):
    return {"exec": {"command": ["/grpc_health_probe", *flags]}}


def pod_of_the_manifest(stock):
    """The pod of docker/kubernetes.yaml: `stock` is at this address, and certificates come from a directory."""
    deployment, _ = yaml.safe_load_all((ROOT / "docker/kubernetes.yaml").read_text())
    spec = deployment["spec"]["template"]["spec"]
    for volume in spec["volumes"]:
        secret = volume.pop("secret")
        expect(secret["secretName"], "cart-tls")
        volume["hostPath"] = {"path": str(CERTIFICATES)}
    return spec | {"hostAliases": [{"ip": stock, "hostnames": ["stock"]}]}


# Cases


def a_pod_of_the_manifest(kubelet):
    asks_itself = asks({"grpc": {"port": 50051}})
    with kubelet.pod("stock", server("stock", 50051, readinessProbe=asks_itself)) as stock:
        stock.is_ready("stock")
        spec = pod_of_the_manifest(until(stock.address))
        cart = spec["containers"][0]
        # The same probes, more often.
        for probe in ["readinessProbe", "livenessProbe"]:
            cart[probe] |= {"periodSeconds": 1, "failureThreshold": 2}
        with kubelet.pod("cart", **spec) as pod:
            pod.is_ready("cart")
            waited = pod.container("wait-for-stock", "initContainerStatuses")["state"]["terminated"]
            expect((waited["reason"], waited["exitCode"]), ("Completed", 0))
            pod.signal("cart", "USR1")
            pod.is_ready("cart", False)
            expect(pod.events("cart")[-1], 'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")\n')
            pod.signal("cart", "USR2")
            pod.is_ready("cart")
            # It lived all the time.
            expect(pod.container("cart")["restartCount"], 0)
            pod.signal("cart", "STOP")
            (killed,) = pod.events("cart", "Killing")
            expect(killed, "Container cart failed liveness probe, will be restarted")
            # The first probe may have begun before.
            _, failed, *_ = [event for event in pod.events("cart") if event.startswith("Liveness")]
            expect(
                failed,
                "Liveness probe failed: error: TLS handshake with localhost:50051 timed out after 1s: connected, no answer\n",
            )
            until(lambda: expect(pod.container("cart")["restartCount"], 1))
            pod.is_ready("cart")


def an_init_container_that_waits_in_vain(kubelet):
    spec = pod_of_the_manifest(NOBODY)
    spec["initContainers"][0]["args"] = ["-addr=stock:50051", "-wait=2s"]
    with kubelet.pod("vain", **spec) as pod:

        def look():
            container = pod.container("wait-for-stock", "initContainerStatuses")
            ended = container["state"].get("terminated") or container.get("lastState", {}).get("terminated")
            assert ended, container
            return ended

        ended = until(look)
        print("     ", json.dumps(ended))
        expect((ended["reason"], ended["exitCode"]), ("Error", 1))
        assert "stock:50051: connection refused" in ended["message"], ended


def exec_and_grpc_say_the_same(kubelet):
    servers = [
        server("exec", 5001, readinessProbe=asks(executes("-addr=:5001", "-timeout=4s"))),
        server("detailed", 5002, readinessProbe=asks(executes("-addr=:5002", "-timeout=4s", "-exit-codes=detailed"))),
        server("grpc", 5003, readinessProbe=asks({"grpc": {"port": 5003}})),
    ]
    with kubelet.pod("same", *servers) as pod:
        for name in ["exec", "detailed", "grpc"]:
            pod.is_ready(name)
        before = {name: len(kubelet.events("same", name, "Unhealthy")) for name in ["exec", "detailed", "grpc"]}
        for name in ["exec", "detailed", "grpc"]:
            pod.signal(name, "USR1")
            pod.is_ready(name, False)
            said = {event.rstrip("\n") for event in pod.events(name, at_least=before[name] + 1)[before[name]:]}
            expect(said, {'Readiness probe failed: service unhealthy (responded with "NOT_SERVING")'})
            pod.signal(name, "USR2")
            pod.is_ready(name)


def where_only_exec_reaches(kubelet):
    local = "127.0.0.1"
    tls = ["--tls-cert=/tls/tls.crt", "--tls-key=/tls/tls.key"]
    mtls = [*tls, "--client-ca=/tls/ca.crt"]
    over_tls = ["-timeout=4s", "-tls", "-tls-ca-cert=/tls/ca.crt"]
    over_mtls = [*over_tls, "-tls-client-cert=/tls/tls.crt", "-tls-client-key=/tls/tls.key"]
    mount = {"volumeMounts": [{"name": "tls", "mountPath": "/tls"}]}
    ready = [
        server("local-exec", 5001, address=local, readinessProbe=asks(executes("-addr=:5001", "-timeout=4s"))),
        server("tls-exec", 5002, *tls, **mount, readinessProbe=asks(executes("-addr=localhost:5002", *over_tls))),
        # With a gate that is closed as Kubernetes comes, and without a look at the certificate, which is not for this address.
        server("tls-grpc", 5003, *tls, **mount, readinessProbe=asks({"grpc": {"port": 5003, "mode": "TLS"}})),
        server("mtls-exec", 5004, *mtls, **mount, readinessProbe=asks(executes("-addr=localhost:5004", *over_mtls))),
    ]
    not_ready = [
        server("local-grpc", 5005, address=local, readinessProbe=asks({"grpc": {"port": 5005}})),
        server("plain-grpc", 5006, *tls, **mount, readinessProbe=asks({"grpc": {"port": 5006}})),
        server("mtls-grpc", 5007, *mtls, **mount, readinessProbe=asks({"grpc": {"port": 5007, "mode": "TLS"}})),
    ]
    volumes = [{"name": "tls", "hostPath": {"path": str(CERTIFICATES)}}]
    with kubelet.pod("reach", *ready, *not_ready, volumes=volumes) as pod:
        for container in ready:
            pod.is_ready(container["name"])
        for container in not_ready:
            pod.events(container["name"], at_least=3)
            pod.is_ready(container["name"], False)


def variables_in_a_command(kubelet):
    """The kubelet expands in a probe's command what env says literally, once; in env, all that is above."""
    from_field = {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    literal = {"name": "HOST", "value": "127.0.0.1"}
    nested = {"name": "NESTED", "value": "$(HOST):5003"}
    below = {"name": "GRPC_HEALTH_PROBE_ADDR", "value": "$(POD_IP):5999"}
    probe = lambda *flags: asks(executes(*flags, "-timeout=4s"))
    servers = [
        server("literal", 5001, env=[literal], readinessProbe=probe("-addr=$(HOST):5001")),
        server("unknown", 5002, readinessProbe=probe("-addr=$(NOPE):5002")),
        server("nested", 5003, env=[literal, nested], readinessProbe=probe("-addr=$(NESTED)")),
        server("field", 5004, env=[from_field], readinessProbe=probe("-addr=:5004", "-service=ip$(POD_IP)")),
        server("below", 5005, env=[from_field, below], readinessProbe=probe()),
    ]
    with kubelet.pod("variables", *servers) as pod:
        pod.is_ready("literal")
        for name, words in [
            ("unknown", "hint: $(NOPE) is not expanded: in a probe's command, "),
            ("nested", "hint: $(HOST) is not expanded: in a probe's command, "),
            # What has a valueFrom is empty there.
            ("field", 'the server does not know the service "ip"'),
            ("below", f"cannot connect to {pod.address()}:5999: connection refused"),
        ]:
            said = pod.events(name)[-1]
            assert words in said, said


def liveness_restarts(kubelet):
    """A server that is NOT_SERVING is restarted by a liveness probe, unless it asks with -alive."""
    probe = lambda *flags: asks(executes(*flags, "-timeout=4s"), failureThreshold=2)
    servers = [
        server("plain", 5001, "--service==NOT_SERVING", livenessProbe=probe("-addr=:5001")),
        server("alive", 5002, "--service==NOT_SERVING", livenessProbe=probe("-addr=:5002", "-alive")),
    ]
    with kubelet.pod("live", *servers) as pod:
        killed = pod.events("plain", "Killing", at_least=2)
        expect(set(killed), {"Container plain failed liveness probe, will be restarted"})
        until(lambda: expect(pod.container("plain")["restartCount"] >= 2, True))
        expect(pod.container("alive")["restartCount"], 0)


def whose_time_is_up_first(kubelet):
    """A server that does not answer, and probes that the kubelet gives more and less time than they take."""
    stuck = "--delay=3600000"
    servers = [
        # As long as the probe waits for the answer by default: now one is first, now the other.
        server("as-long", 5001, stuck, readinessProbe=asks(executes("-addr=:5001"), timeoutSeconds=1)),
        # 200 ms are not enough on a machine that has much else to do.
        server("just-longer", 5002, stuck, readinessProbe=asks(executes("-addr=:5002", "-timeout=800ms"), timeoutSeconds=1)),
        server("longer", 5003, stuck, readinessProbe=asks(executes("-addr=:5003", "-timeout=1500ms"), timeoutSeconds=2)),
        server("shorter", 5004, stuck, readinessProbe=asks(executes("-addr=:5004", "-rpc-timeout=1m"), timeoutSeconds=1)),
    ]
    with kubelet.pod("stuck", *servers) as pod:
        for container in servers:
            name = container["name"]
            events = pod.events(name, at_least=20)
            ours = [event for event in events if "error: health check of :500" in event]
            print("     ", f"the kubelet's time is {name}: {len(ours)} of {len(events)} events have the probe's words")
            if name == "longer":
                expect(ours, events)
            if name == "shorter":
                expect(set(events), {
                    'Readiness probe failed: command timed out: "/grpc_health_probe -addr=:5004 -rpc-timeout=1m" timed out after 1s'
                })
        # Those that were killed are gone: one for each server may be at work.
        probes = subprocess.run(["pgrep", "-x", "grpc_health_pro"], capture_output=True, text=True).stdout
        assert len(probes.splitlines()) <= len(servers), probes


CASES = [
    a_pod_of_the_manifest,
    an_init_container_that_waits_in_vain,
    exec_and_grpc_say_the_same,
    where_only_exec_reaches,
    variables_in_a_command,
    liveness_restarts,
    whose_time_is_up_first,
]


def make_certificates():
    """What the Secret of the manifest has, with its owner and mode."""
    command(ROOT / "target/debug/examples/certificates", "--directory=/run/certificates/made", "--name=localhost")
    for file, source in [("tls.crt", "server.pem"), ("tls.key", "server.key"), ("ca.crt", "ca.pem")]:
        shutil.copy(CERTIFICATES / "made" / source, CERTIFICATES / file)
        os.chown(CERTIFICATES / file, 0, 65532)
        os.chmod(CERTIFICATES / file, 0o440)


def main():
    probe = pathlib.Path(sys.argv[1])
    MANIFESTS.mkdir()
    make_certificates()
    config = pathlib.Path("/run/kubelet.json")
    config.write_text(json.dumps(CONFIG))
    log = MADE / "kubelet.log"
    options = ["--root-dir=/run/kubelet", "--cert-dir=/run/kubelet/pki", "--hostname-override=node"]
    with node(MADE, probe), daemon(log, MADE / "kubelet", f"--config={config}", *options) as process:
        kubelet = Kubelet(log)

        def answers():
            assert process.poll() is None, log.read_text()[-2000:]
            try:
                kubelet.pods()
            except OSError as error:
                raise AssertionError(error) from None

        until(answers)
        return run_cases(CASES, sys.argv[2:], kubelet)


sys.exit(main())
