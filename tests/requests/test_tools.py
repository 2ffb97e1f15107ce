"""Tools whose schemas have regular expressions of another language than Python."""

import subprocess
import sys
from textwrap import dedent


def test_sets_within_sets_are_no_warning_in_the_log() -> None:
    program = dedent("""
        from jsonschema import Draft7Validator  # by which mistral_common checks schemas

        from serving.requests.tools import described

        for expression in ("[[a-z]&&b]", "[a-z--b]", "[a||b]", "[a~~b]"):
            described([{"name": "f", "parameters": {"pattern": expression}}])
            Draft7Validator.check_schema({"pattern": "x" + expression})
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
