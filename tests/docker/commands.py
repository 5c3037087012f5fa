"""What all cases use: programs that they run, and what they print."""

import pathlib
import subprocess
import sys
import threading

sys.path.append(str(pathlib.Path(__file__).parents[1]))
from suite import PATIENCE

ROOT = pathlib.Path(__file__).parents[2]
# What the case of this thread prints. Cases run side by side, and each prints when it has ended.
_case = threading.local()


def collect():
    """From now on keeps what this thread says, in the list that it returns."""
    _case.lines = []
    return _case.lines


def say(*words):
    _case.lines.append(" ".join(["     ", *map(str, words)]))


def docker(*arguments, stdin=None):
    """Runs Docker's client, and returns what it prints."""
    return command("docker", *arguments, stdin=stdin)


def command(*words, stdin=None, env=None):
    ran = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=3 * PATIENCE, cwd=ROOT, env=env)
    assert ran.returncode == 0, f"$ {' '.join(words)}\nexit code {ran.returncode}\n{ran.stdout}{ran.stderr}"
    return ran.stdout.strip()
