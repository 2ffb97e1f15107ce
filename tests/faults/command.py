"""The `mistral-serve` command with stand-ins for vLLM in its engines, which need no weights, and a
scaling policy that takes seconds where the real one takes minutes:
`python -m tests.faults.command up CONFIG`.
"""

import os
import secrets
from unittest.mock import patch

from serving import cli
from tests.faults.deployed import python_path


def main() -> None:
    os.environ["PYTHONPATH"] = python_path()
    # Ray reads them when it is imported, by the stand-ins.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    from tests.faults.app import Deployment
    from tests.faults.quick_policy import QuickEnginePolicy

    with (
        patch("serving.app.engine.Deployment", Deployment),
        patch("serving.autoscaling.EnginePolicy", QuickEnginePolicy),
    ):
        cli.main()


if __name__ == "__main__":
    main()
