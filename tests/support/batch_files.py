"""What a client does with files and batches, through OpenAI's own library."""

import asyncio
import json
from typing import Any, Literal

from openai import AsyncOpenAI
from openai.types import Batch

from tests.support.live_router import MESSAGES, MODEL

ENDPOINT: Literal["/v1/chat/completions"] = "/v1/chat/completions"
ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: str, url: str = ENDPOINT, **body: Any) -> dict[str, Any]:
    body = {"model": MODEL, "messages": MESSAGES} | body
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def lines(count: int) -> bytes:
    return encoded(*(line(f"line-{number}") for number in range(count)))


def encoded(*of: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(one).encode() + b"\n" for one in of)


async def begun(client: AsyncOpenAI, content: bytes, **fields: Any) -> Batch:
    """Uploads a file and begins a batch of it."""
    file = await client.files.create(file=("in.jsonl", content), purpose="batch")
    return await client.batches.create(
        input_file_id=file.id, endpoint=ENDPOINT, completion_window="24h", **fields
    )


async def ended(client: AsyncOpenAI, batch_id: str) -> Batch:
    """Polls until a batch has ended."""
    async with asyncio.timeout(30):
        while (batch := await client.batches.retrieve(batch_id)).status not in ENDED:
            pass
    return batch


async def answers(client: AsyncOpenAI, file_id: str | None) -> dict[str, Any]:
    """Downloads an output or error file; each custom_id must be there once."""
    assert file_id is not None
    content = await client.files.content(file_id)
    found = [json.loads(line) for line in content.text.splitlines()]
    by_id = {answer["custom_id"]: answer for answer in found}
    assert len(by_id) == len(found)
    return by_id
