"""The `mistral-serve` command with stand-ins for vLLM in its engines, which need no weights, and a
scaling policy that takes seconds where the real one takes minutes:
`python -m tests.faults.command up CONFIG`.
"""

import importlib
import os
from unittest.mock import patch

from serving.cli import main
from tests.faults.app import Deployment
from tests.faults.deployed import python_path
from tests.faults.quick_policy import QuickModelPolicy

if __name__ == "__main__":
    os.environ["PYTHONPATH"] = python_path()
    with (
        patch("serving.app.engine.Deployment", Deployment),
        patch.object(importlib.import_module("serving.cli.up"), "prepare_weights"),
        patch("serving.autoscaling.policies.ModelPolicy", QuickModelPolicy),
    ):
        main()
