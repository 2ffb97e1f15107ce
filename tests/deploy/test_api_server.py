"""serving/deploy/api_server.py: the user's kubeconfig."""

from pathlib import Path

import pytest

from serving.deploy.api_server import connect
from serving.deploy.errors import Unreachable

CONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "https://127.0.0.1:1"}}}}]
users: [{{name: u, user: {{exec: {{apiVersion: client.authentication.k8s.io/v1, command: {login},
  installHint: see your provider, interactiveMode: Never}}}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (CONFIG.format(login='"false"'), "the login that the kubeconfig names failed: exec: proc"),
        (
            CONFIG.format(login="absent-login"),
            "failed: [Errno 2] No such file or directory: 'absent-login'",
        ),
        ("{", "the kubeconfig cannot be read: while parsing a flow node"),
        ("[]", "the kubeconfig cannot be read: list indices"),
    ],
)
def test_a_kubeconfig_that_leads_nowhere_is_told_before_a_request(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(text)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    with pytest.raises(Unreachable) as error:
        connect()
    assert said in str(error.value)
