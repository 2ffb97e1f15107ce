"""The failure of a check."""


class CheckFailed(Exception):
    """The server did something that a client cannot cope with; the message says what."""


def expect(condition: object, otherwise: str) -> None:
    """Fails the check with `otherwise` unless `condition` is true."""
    if not condition:
        raise CheckFailed(otherwise)
