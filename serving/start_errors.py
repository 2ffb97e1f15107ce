"""Why replicas do not start, from the messages of Ray Serve's controller."""

import asyncio
import re
from collections.abc import Mapping

_FRAME = re.compile(r'^ +File ".*\n(?: .*\n)*', re.M)
"""A place in a Python trace, with its lines of code."""
_CONTROLLER_S = 2


def exception_of(message: str) -> str:
    """A message in one line; of a trace in it only the exception at its end."""
    return " ".join(_FRAME.split(message)[-1].split())


async def start_errors(deployments: Mapping[str, str]) -> dict[str, str]:
    """The exceptions of replicas that failed to start, by model; none if Ray Serve's controller
    does not answer. `deployments` has the deployment of each model."""
    from ray import serve

    try:
        async with asyncio.timeout(_CONTROLLER_S):
            status = await asyncio.to_thread(serve.status)
    except Exception:  # Ray's errors have no common kind, and the status must not depend on it
        return {}
    messages = {
        name: overview.message
        for application in status.applications.values()
        for name, overview in application.deployments.items()
    }
    return {
        model_id: exception_of(messages[name])
        for model_id, name in deployments.items()
        if _FRAME.search(messages.get(name, ""))
    }
