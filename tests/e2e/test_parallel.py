"""A replica that spans several workers and nodes."""

import json
import secrets
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import openai
import pytest

from tests.e2e.service import MODEL, ROOT, environment
from tests.support.ports import free_port

PROMPT = "Count from 1 to 20."


@pytest.mark.full
@pytest.mark.skipif(not shutil.which("g++"), reason="vLLM compiles here and there is no g++")
def test_tensor_parallel_within_a_node_and_pipeline_stages_across_nodes(
    client: openai.OpenAI,
) -> None:
    """Two workers, on one node or on two, answer like one."""
    temp_dir = tempfile.mkdtemp(prefix="nodes-", dir="/tmp")
    Path(temp_dir, "ray").mkdir()  # where Ray's clusters of several nodes store their address
    try:
        result = subprocess.run(
            [sys.executable, "-m", "tests.e2e.two_nodes", str(free_port()), PROMPT],
            cwd=ROOT,
            env={**environment(secrets.token_hex(32)), "TMPDIR": temp_dir},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == 0, result.stderr[-3000:]
    finally:
        shutil.rmtree(temp_dir, ignore_errors=True)
    tensor, pipeline = (json.loads(line) for line in result.stdout.splitlines() if line[0] == "{")
    assert len(tensor["nodes"]) == 1
    assert len(pipeline["nodes"]) == len(set(pipeline["nodes"])) == 2
    alone = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": PROMPT}], temperature=0
    )
    assert tensor["answer"] == pipeline["answer"] == alone.choices[0].message.content
