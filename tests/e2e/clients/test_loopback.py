"""A process that is kept to this machine."""

import json
import subprocess
import sys

import pytest

CODE = """
import json, socket, sys
from tests.e2e.clients import loopback
loopback.keep_to_it()
server = socket.create_server(("127.0.0.1", 0))
socket.create_connection(("localhost", server.getsockname()[1]))
for host in sys.argv[1:]:
    try:
        socket.create_connection((host, 443))
    except PermissionError:
        pass
print(json.dumps(loopback.reached))
"""


@pytest.mark.parametrize("host", ["192.0.2.1", "telemetry.invalid", "2001:db8::1"])
def test_it_reaches_no_other(host: str) -> None:
    command = [sys.executable, "-c", CODE, host]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(result.stdout) == [host]
