"""Processes that run beside the cases, and the lines that they write."""

import contextlib
import pathlib
import subprocess
import sys
import threading

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from suite import PATIENCE


class Lines:
    """The lines of a stream, as they come."""

    def __init__(self, stream):
        self.lines = []
        self.is_open = True
        self.changed = threading.Condition()
        threading.Thread(target=self._read, args=[stream], daemon=True).start()

    def _read(self, stream):
        for line in stream:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                self.changed.notify_all()
        with self.changed:
            self.is_open = False
            self.changed.notify_all()

    def wait(self, look, since=0):
        """Waits until `look` finds something in a line, from number `since` on: what it finds."""
        found = None
        seen = since

        def has_found():
            nonlocal found, seen
            while found is None and seen < len(self.lines):
                found = look(self.lines[seen]) or None
                seen += 1
            return found is not None or not self.is_open

        with self.changed:
            self.changed.wait_for(has_found, PATIENCE)
            assert found is not None, "no such line among\n" + "\n".join(self.lines[since:][-20:])
            return found

    def wait_for(self, text, since=0):
        """Waits for a line with this text."""
        return self.wait(lambda line: line if text in line else None, since)


class Process:
    """A process of a user, who needs no name."""

    all = []

    def __init__(self, *command, uid=0, environment=None):
        self.process = subprocess.Popen(
            [str(word) for word in command], user=uid, group=uid, extra_groups=[], env=environment, cwd="/",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )
        Process.all.append(self)
        self.stdout = Lines(self.process.stdout)
        self.stderr = Lines(self.process.stderr)

    def signal(self, number):
        self.process.send_signal(number)

    def finish(self):
        """Waits for its end: its exit code."""
        return self.process.wait(PATIENCE)

    def stop(self):
        """Ends it, if it still runs: its exit code."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.terminate()
            return self.process.wait(PATIENCE)
        self.process.kill()
        return self.process.wait()

    @classmethod
    def stop_all(cls):
        """Ends what still runs, the last one first."""
        for process in reversed(cls.all):
            process.stop()
