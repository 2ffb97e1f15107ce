"""serving/deploy/errors.py: the API server's refusals in words."""

import json

import pytest

from serving.deploy.errors import Conflict, Denied, DeployError, ServerTrouble, Unreachable, refusal


def body(message: str, *causes: str) -> bytes:
    details = {"causes": [{"message": cause} for cause in causes]}
    return json.dumps({"kind": "Status", "message": message, "details": details}).encode()


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (401, "Unauthorized", Unreachable),
        (403, 'User "a" cannot patch', Denied),
        (403, 'User "system:anonymous" cannot patch', Unreachable),
        (403, "exceeded quota: team", DeployError),
        (409, "the object has been modified", Conflict),
        (422, "field is immutable", DeployError),
        (429, "it would violate the pod's disruption budget", Conflict),
        (429, "too many requests", ServerTrouble),
        (503, "unavailable", ServerTrouble),
    ],
)
def test_each_status_has_its_kind(status: int, message: str, kind: type[DeployError]) -> None:
    assert type(refusal(status, body(message), "patch it")) is kind


def test_causes_that_say_more_are_told() -> None:
    error = refusal(429, body("disruption budget", "needs 1 and has 1"), "evict")
    assert str(error) == "could not evict: disruption budget; needs 1 and has 1"


def test_an_answer_that_is_no_status_is_shown_as_it_is() -> None:
    assert str(refusal(502, b"<html>bad gateway</html>", "get a")).endswith("bad gateway</html>")
