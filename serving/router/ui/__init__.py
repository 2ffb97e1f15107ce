"""The page at /-/ui: one document with its style and scripts inline."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from fastapi import Response

PATH = "/-/ui"


def _document() -> tuple[str, str]:
    """Returns the page and the Content-Security-Policy that allows exactly what is in it."""
    folder = files(__name__)
    style, script = (
        "".join(folder.joinpath(name).read_text("utf-8") for name in names)
        for names in (("page.css",), ("status.js", "prompt.js"))
    )
    page = folder.joinpath("page.html").read_text("utf-8")
    page = page.replace("<style></style>", f"<style>{style}</style>")
    page = page.replace("<script></script>", f"<script>{script}</script>")
    policy = [
        "default-src 'none'",
        f"script-src {_source(script)}",
        f"style-src {_source(style)}",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
    return page, "; ".join(policy)


def _source(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


_PAGE, _POLICY = _document()
_HEADERS = {
    "content-security-policy": _POLICY,
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


async def page() -> Response:
    return Response(_PAGE, headers=_HEADERS)
