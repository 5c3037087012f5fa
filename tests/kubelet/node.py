"""containerd, with images that are made here: what a node of Kubernetes has besides its kubelet. It runs where
`namespaces` has made room for it.
"""

import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tarfile

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from suite import PATIENCE, until

ROOT = pathlib.Path(__file__).parents[2]
SOCKET = "unix:///run/containerd/containerd.sock"
# Where a kubelet and crictl expect them.
SERVER_IMAGE, PROBE_IMAGE, PAUSE_IMAGE = (
    f"docker.io/library/{name}:0.1.0" for name in ["health_server", "grpc_health_probe", "pause"]
)
CONTAINERD = f"""
version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  # Where a container holds this machine, it may not lower it.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cni"
"""
# Pods have addresses of their own, behind a bridge.
NETWORK = {
    "cniVersion": "0.4.0",
    "name": "pods",
    "plugins": [{
        "type": "bridge",
        "bridge": "pods",
        "isGateway": True,
        "ipam": {"type": "host-local", "dataDir": "/run/cni-addresses", "ranges": [[{"subnet": "10.88.0.0/16"}]]},
    }],
}
# Does nothing, in each pod, for as long as the pod is there.
PAUSE = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"


def command(*words, **options):
    """Runs a program, and returns what it prints."""
    ran = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, **options)
    assert ran.returncode == 0, f"$ {' '.join(map(str, words))}\nexit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout.strip()


@contextlib.contextmanager
def daemon(log, *words, **options):
    """A program in the background, with its output in `log`, until the end of a `with`."""
    with open(log, "w") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def node(made, probe):
    """containerd, with the images of the probe and of a server, until the end of a `with`."""
    for directory in ["containerd", "cni"]:
        os.makedirs(f"/run/{directory}")
    pathlib.Path("/run/cni/pods.conflist").write_text(json.dumps(NETWORK))
    pathlib.Path("/run/containerd/config.toml").write_text(CONTAINERD)
    log = made / "containerd.log"
    with daemon(log, "containerd", "--config", "/run/containerd/config.toml") as process:

        def answers():
            assert process.poll() is None, log.read_text()[-2000:]
            ran = subprocess.run(["ctr", "version"], capture_output=True, text=True)
            assert ran.returncode == 0, ran.stderr

        until(answers)
        server = ROOT / "target/debug/examples/health_server"
        import_images(pause(made), probe, server)
        yield


def pause(made):
    program = made / "pause"
    command("cc", "-static", "-Os", "-x", "c", "-o", program, "-", input=PAUSE)
    return program


def import_images(pause, probe, server):
    import_image(PAUSE_IMAGE, {"/pause": pause})
    import_image(PROBE_IMAGE, {"/grpc_health_probe": probe})
    import_image(SERVER_IMAGE, {"/health_server": server, "/grpc_health_probe": probe})


def import_image(name, programs):
    """Makes an image of these programs, the first of which it runs, with the libraries of those that are not static."""
    files = dict(programs)
    for program in programs.values():
        ran = subprocess.run(["ldd", program], capture_output=True, text=True)
        files |= {library: library for library in re.findall(r"/\S+", ran.stdout)} if ran.returncode == 0 else {}
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w", dereference=True) as archive:
        for path, file in files.items():
            archive.add(file, path)
    config = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine],
        "os": "linux",
        "config": {"Entrypoint": [next(iter(programs))], "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    image = io.BytesIO()
    with tarfile.open(fileobj=image, mode="w") as archive:
        for file, content in [("layer.tar", layer.getvalue()), ("config.json", config), ("manifest.json", manifest)]:
            entry = tarfile.TarInfo(file)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    ran = subprocess.run(["ctr", "--namespace=k8s.io", "images", "import", "-"], input=image.getvalue(), capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()


def signal_to(container, name):
    """Sends a signal to the first process of a container."""
    rows = command("ctr", "--namespace=k8s.io", "tasks", "list").splitlines()
    (process,) = [row.split()[1] for row in rows if row.startswith(container)]
    os.kill(int(process), getattr(signal, f"SIG{name}"))
