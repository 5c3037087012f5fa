"""What the servers in Python have in common: README.md says what they read and print."""

import base64
import json
import os

REFUSALS = {"unauthenticated": "no token", "denied": "not for you"}
WAITS = {"slow": 30, "late": 2.5}
SERVING = ["up", "u" * 300]
NOT_SERVING = ["down"]


def report(value):
    # In one piece, whichever thread it comes from.
    os.write(1, json.dumps(value).encode() + b"\n")


def report_check(service, timeout, metadata):
    report(
        {
            "service": service,
            "timeout": timeout,
            "metadata": [
                [key, {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value]
                for key, value in metadata
            ],
        }
    )
