"""The servers of other libraries: their processes, and what they print. servers/README.md has the protocol."""

import dataclasses
import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import tempfile
import threading

HERE = pathlib.Path(__file__).parent
SERVERS = HERE / "servers"
MADE = HERE.parent.parent / "target" / "interop"
# How long any one process may take for anything.
PATIENCE = 30
# How long a server may take to begin: all of them do so at once.
START = 400

# They live short: what is soonest ready is best.
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{MADE}/java/classes:{MADE}/java/lib/*"]


@dataclasses.dataclass(frozen=True)
class Library:
    """What a server is made with: its name in tables and in lists of exceptions, its version, and how it is started."""

    slug: str
    name: str
    version: str
    command: list


def _version(path, pattern):
    return re.search(pattern, (HERE / path).read_text()).group(1)


def _node(package):
    return _version("package.json", f'"{package}": "([^"]+)"')


def _java(name):
    return _version("servers/java/pom.xml", f"<{name}.version>([^<]+)<")


def libraries():
    python = [sys.executable, "-B"]
    go = str(MADE / "go-servers")
    return [
        Library("c-core", "C core", "grpcio " + _version("requirements.txt", "grpcio==(.+)"),
                [*python, str(SERVERS / "grpcio_server.py")]),
        Library("grpc-go", "grpc-go", _version("servers/go/go.mod", r"google.golang.org/grpc v(\S+)"), [go, "grpc"]),
        Library("grpc-java", "grpc-java", "Netty, " + _java("grpc"), [*JAVA, "interop.GrpcJava"]),
        Library("grpc-js", "grpc-js", _node("@grpc/grpc-js"), ["node", str(SERVERS / "grpc_js.js")]),
        Library("tonic", "tonic", _version("servers/tonic/Cargo.lock", r'name = "tonic"\nversion = "(.+)"'),
                [str(MADE / "tonic" / "debug" / "tonic-server")]),
        Library("connect-go", "Connect for Go", _version("servers/go/go.mod", r"connectrpc.com/connect v(\S+)"),
                [go, "connect"]),
        Library("connect-node", "Connect for Node", _node("@connectrpc/connect-node"),
                ["node", str(SERVERS / "connect_node.js")]),
        Library("armeria", "Armeria", _java("armeria"), [*JAVA, "interop.Armeria"]),
        Library("tomcat", "Spring Boot on Tomcat", f"{_java('spring-boot')}, grpc-servlet-jakarta {_java('grpc-servlet')}",
                [*JAVA, "interop.SpringBoot"]),
        Library("grpclib", "grpclib", _version("requirements.txt", "grpclib==(.+)"),
                [*python, str(SERVERS / "grpclib_server.py")]),
    ]


class Server:
    """A server process: its addresses by listener, and what it prints."""

    def __init__(self, library, folder, listeners):
        self.listeners = listeners
        self.log = pathlib.Path(tempfile.mkstemp(dir=folder, prefix=library.slug, suffix=".log")[1])
        # Tomcat leaves directories behind when it is killed, and Java does not know TMPDIR.
        temporary = f"-Djava.io.tmpdir={folder}"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*library.command, *listeners.values()], env=os.environ | {"JAVA_TOOL_OPTIONS": temporary},
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
            )
        self.lines = queue.Queue()
        self.addresses = {}
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self):
        """Waits until it listens. What it cannot serve has no address."""
        ports = self.next("ports", START)["ports"]
        for (name, listener), port in zip(self.listeners.items(), ports):
            if port is not None:
                self.addresses[name] = listener if listener.startswith("unix:") else f"127.0.0.1:{port}"

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def next(self, key, patience=PATIENCE):
        """What the server printed up to the next line with `key`, as one."""
        all_lines = {}
        while key not in all_lines:
            try:
                all_lines.update(self.lines.get(timeout=patience))
            except queue.Empty:
                raise AssertionError(f"the server printed no {key!r}; its stderr:\n{self.log.read_text()}") from None
        return all_lines

    def say(self, line=""):
        """Sends a line, and passes over what the server has printed so far."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.next("echo")

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)
