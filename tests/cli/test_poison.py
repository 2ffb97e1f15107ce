"""`mistral-serve poison`."""

from collections.abc import Callable

import httpx
import pytest
from msgspec.json import encode
from typer.testing import CliRunner, Result

from serving.cli.commands import app
from serving.router.poison_list import GuiltyRequest, PoisonList
from tests.cli.service import URL

Run = Callable[..., Result]
ONE = GuiltyRequest("ab12", "small", "hang", 3.2, 3596.8)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command against a service that refuses `ONE`."""
    guilty = [ONE]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, content=encode(PoisonList(guilty, waiting=2)))
        if request.url.path not in ("/-/poison", "/-/poison/ab12"):
            return httpx.Response(404)
        guilty.clear()
        return httpx.Response(200, json={"cleared": 1})

    new_client = httpx.Client

    def run(*words: str) -> Result:
        client = new_client(base_url=URL, transport=httpx.MockTransport(answer))
        monkeypatch.setattr(httpx, "Client", lambda **_: client)
        return CliRunner().invoke(app, ["poison", *words, "--url", URL], catch_exceptions=False)

    return run


@pytest.mark.parametrize("which", [[], ["ab12"]])
def test_the_list_is_shown_and_cleared(poison: Run, which: list[str]) -> None:
    assert poison("list").stdout.splitlines() == [
        "ab12  small  hang  3 s ago, for 3597 s more",
        "2 requests wait as suspects of an engine's death",
    ]
    assert poison("clear", *which).stdout == "1 cleared\n"
    assert poison("list").stdout.splitlines()[0] == "no request is refused"


def test_an_unknown_digest_is_told_and_1(poison: Run) -> None:
    result = poison("clear", "cd34")
    assert (result.exit_code, result.stdout) == (1, "no request of the digest cd34 is refused\n")
