"""The headers that say what is left of a tenant's limits, as OpenAI's and Anthropic's clients read
them."""

from datetime import UTC, datetime, timedelta

from serving.asgi import Headers
from serving.dispatch import Allowance
from serving.router.http.errors import is_anthropics

_OPENAI = {
    limited: [
        b"x-ratelimit-%b-%b" % (which, limited) for which in (b"limit", b"remaining", b"reset")
    ]
    for limited in (b"requests", b"tokens")
}


def rate_limit_headers(
    path: str, requests: Allowance | None, tokens: Allowance | None, now: datetime | None = None
) -> Headers:
    """Returns the headers for a response to a request to `path`; a limit that there is not has
    none. `now` is the time by the wall clock, which Anthropic's headers name."""
    headers: Headers = []
    for_anthropics = is_anthropics(path)
    for name, left in ((b"requests", requests), (b"tokens", tokens)):
        if left is None:
            continue
        if for_anthropics:
            at = (now or datetime.now(UTC)) + timedelta(seconds=left.reset_s)
            reset = at.strftime("%Y-%m-%dT%H:%M:%SZ").encode()
            form = b"anthropic-ratelimit-%b-%b"
            values = ((b"limit", left.limit), (b"remaining", left.remaining))
            headers += [(form % (name, which), b"%d" % value) for which, value in values]
            headers.append((form % (name, b"reset"), reset))
        else:
            limit, remaining, reset = _OPENAI[name]
            headers += (
                (limit, b"%d" % left.limit),
                (remaining, b"%d" % left.remaining),
                (reset, duration(left.reset_s)),
            )
    return headers


def duration(seconds: float) -> bytes:
    """Writes a duration as OpenAI does, with Go's units: 20ms, 8.64s, 6m0s, 23h59m30s."""
    ms = round(seconds * 1000)
    if ms < 1000:
        return b"%dms" % ms if ms else b"0s"
    minutes, rest_ms = divmod(ms, 60_000)
    hours, minutes = divmod(minutes, 60)
    rest_s = rest_ms / 1000
    if hours:
        return b"%dh%dm%gs" % (hours, minutes, rest_s)
    return b"%dm%gs" % (minutes, rest_s) if minutes else b"%gs" % rest_s
