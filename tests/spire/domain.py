"""A trust domain: a SPIRE server, and one agent on its node."""

import json
import pathlib
import signal
import socket
import subprocess
import time

from processes import Process
from suite import PATIENCE


class Domain:
    """Runs SPIRE for the trust domain `name`, with all that it writes in a folder of its own."""

    def __init__(self, name, programs, folder):
        self.name = name
        self.programs = programs
        self.folder = pathlib.Path(folder) / name
        self.folder.mkdir()
        # Anyone may ask the agent, so it is outside of what is private to the agent.
        self.socket = self.folder / "agent.sock"
        self.endpoint = f"unix://{self.socket}"
        self.admin = self.folder / "server.sock"
        self.entries = {}
        port = unused_port()
        self._configure_server(port)
        self.server = None
        self.start_server()
        bundle = self.write("bootstrap.pem", self.bundle("pem"))
        token = json.loads(self.ask("token", "generate", "-output=json"))["value"]
        self.parent = self.id(f"/spire/agent/join_token/{token}")
        self._configure_agent(port, bundle)
        self.agent = None
        self.start_agent(f"-joinToken={token}")

    def _configure_server(self, port):
        data = self.folder / "server"
        data.mkdir()
        configuration = {
            "server": {
                "bind_address": "127.0.0.1",
                "bind_port": port,
                "socket_path": str(self.admin),
                "trust_domain": self.name,
                "data_dir": str(data),
                "experimental": {"cache_reload_interval": "1s"},
            },
            "plugins": {
                "DataStore": [
                    {"sql": {"plugin_data": {"database_type": "sqlite3", "connection_string": str(data / "db.sqlite3")}}}
                ],
                # A server that starts again is still the same authority.
                "KeyManager": [{"disk": {"plugin_data": {"keys_path": str(data / "keys.json")}}}],
                "NodeAttestor": [{"join_token": {"plugin_data": {}}}],
            },
        }
        self.write("server.conf", json.dumps(configuration))

    def _configure_agent(self, port, bundle):
        data = self.folder / "agent"
        data.mkdir()
        configuration = {
            "agent": {
                "data_dir": str(data),
                # It logs each SVID that it gets.
                "log_level": "DEBUG",
                "server_address": "127.0.0.1",
                "server_port": port,
                "socket_path": str(self.socket),
                "trust_bundle_path": str(bundle),
                "trust_domain": self.name,
                "experimental": {"sync_interval": "1s"},
            },
            "plugins": {
                # An agent that starts again is still the same node.
                "KeyManager": [{"disk": {"plugin_data": {"directory": str(data)}}}],
                "NodeAttestor": [{"join_token": {"plugin_data": {}}}],
                "WorkloadAttestor": [{"unix": {"plugin_data": {}}}],
            },
        }
        self.write("agent.conf", json.dumps(configuration))

    def start_server(self):
        self.server = Process(self.programs / "spire-server", "run", f"-config={self.folder / 'server.conf'}")
        self._until_healthy("spire-server", self.admin, self.server)

    def start_agent(self, *arguments):
        self.agent = Process(
            self.programs / "spire-agent", "run", f"-config={self.folder / 'agent.conf'}", *arguments
        )
        self._until_healthy("spire-agent", self.socket, self.agent)

    def stop_agent(self, number=signal.SIGTERM):
        self.agent.signal(number)
        self.agent.finish()

    def _until_healthy(self, program, path, process):
        command = [self.programs / program, "healthcheck", f"-socketPath={path}"]
        deadline = time.monotonic() + PATIENCE
        while subprocess.run(command, capture_output=True).returncode:
            said = "\n".join(process.stdout.lines + process.stderr.lines)
            assert process.process.poll() is None and time.monotonic() < deadline, f"{program} is not up:\n{said}"
            time.sleep(0.2)

    def write(self, name, text):
        path = self.folder / name
        path.write_text(text)
        return path

    def id(self, path=""):
        return f"spiffe://{self.name}{path}"

    def ask(self, *arguments):
        """Runs a command of spire-server: what it prints."""
        command = [self.programs / "spire-server", *arguments, f"-socketPath={self.admin}"]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert ran.returncode == 0, f"spire-server {' '.join(arguments)}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def bundle(self, form):
        return self.ask("bundle", "show", f"-format={form}")

    def trust(self, other):
        """Gives this domain the bundle of another."""
        path = self.write(f"{other.name}.json", other.bundle("spiffe"))
        self.ask("bundle", "set", f"-id={other.id()}", f"-path={path}", "-format=spiffe")

    def enter(self, name, uid, *options):
        """Gives the processes of a user an identity, /NAME, and waits until the agent has its SVID: its ID."""
        self.entries[name] = [f"-spiffeID={self.id('/' + name)}", f"-parentID={self.parent}", f"-selector=unix:uid:{uid}"]
        self.ask("entry", "create", f"-entryID={name}", *self.entries[name], *options)
        self.agent.stdout.wait(lambda line: "SVID updated" in line and f" entry={name} " in line)
        return self.id(f"/{name}")

    def change(self, name, *options):
        """Changes the entry of this name."""
        self.ask("entry", "update", f"-entryID={name}", *self.entries[name], *options)


def unused_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
