"""Prints pip's configuration as `export` lines that give uv the same one.

uv reads neither pip's files nor its variables, so where an index, a folder of wheels or a proxy is
configured for pip alone uv would not find it. A variable of uv's that is already set stays.
Constraints are left out: the locks pin every version, and uv refuses constraints beside hashes.
"""

import ast
import os
import shlex
import subprocess
import sys

# The name of a setting in pip, uv's variable for it, and what separates values there.
VARIABLES = (
    ("index-url", "UV_DEFAULT_INDEX", " "),
    ("extra-index-url", "UV_INDEX", " "),
    ("find-links", "UV_FIND_LINKS", ","),
    ("no-index", "UV_NO_INDEX", " "),
    ("trusted-host", "UV_INSECURE_HOST", " "),
    ("cert", "SSL_CERT_FILE", " "),
    ("client-cert", "SSL_CLIENT_CERT", " "),
    ("proxy", "ALL_PROXY", " "),
    ("timeout", "UV_HTTP_TIMEOUT", " "),
    ("default-timeout", "UV_HTTP_TIMEOUT", " "),
)


def settings(listing: str) -> dict[str, str]:
    """Settings by name from the output of `pip config list`, the one that pip obeys of each name:
    a variable comes before a command's section, and that before the global one.
    """
    found: dict[str, str] = {}
    for section in ("global.", "install.", ":env:."):
        for line in listing.splitlines():
            name, _, value = line.partition("=")
            if name.startswith(section):
                found[name.removeprefix(section)] = ast.literal_eval(value)
    return found


def exports(found: dict[str, str], environment: dict[str, str]) -> dict[str, str]:
    """uv's variables for pip's settings, without those that `environment` has."""
    return {
        variable: separator.join(found[name].split())
        for name, variable, separator in VARIABLES
        if name in found and variable not in environment
    } | ({} if "UV_INDEX_STRATEGY" in environment else {"UV_INDEX_STRATEGY": "unsafe-best-match"})


if __name__ == "__main__":
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listing = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    for variable, value in exports(settings(listing), dict(os.environ)).items():
        print(f"export {variable}={shlex.quote(value)}")
