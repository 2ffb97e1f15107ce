"""`mistral-serve chat`: one streamed answer, or a conversation in the terminal."""

import base64
import json
import mimetypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer

from serving.cli.client import (
    DEFAULT_URL,
    NOT_UNDERSTOOD,
    ApiKeyEnv,
    Url,
    bearer,
    fail,
    key_from,
    message_of,
    unreachable,
)

Message = dict[str, Any]


def chat(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The message to answer; without one, a conversation begins."),
    ] = None,
    url: Url = DEFAULT_URL,
    model: Annotated[str | None, typer.Option(help="Default: the service's first.")] = None,
    system: Annotated[str | None, typer.Option(help="System prompt.")] = None,
    image: Annotated[
        list[str] | None, typer.Option(help="Image file or URL for the first message; repeatable.")
    ] = None,
    temperature: Annotated[float | None, typer.Option(help="Default: the service's.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer.")] = None,
    api_key_env: ApiKeyEnv = None,
) -> None:
    """Talk to a model and see the answer stream."""
    headers = bearer(key_from(api_key_env))
    timeout = httpx.Timeout(10, read=None)
    with httpx.Client(base_url=url, headers=headers, timeout=timeout) as client:
        try:
            options = {
                "model": model or first_model(client),
                "temperature": temperature,
                "max_tokens": max_tokens,
            }
            given = {name: value for name, value in options.items() if value is not None}
            converse(client, given, prompt, system, image or [])
        except httpx.ConnectError as error:
            raise unreachable(url, error) from None
        except httpx.HTTPError as error:
            raise fail(f"the answer broke off: {error}") from None


def first_model(client: httpx.Client) -> str:
    response = client.get("/v1/models")
    check(response)
    try:
        return str(response.json()["data"][0]["id"])
    except NOT_UNDERSTOOD:
        raise fail(
            f"{response.url} lists no model. Name one with --model, or pass the service's "
            "address with --url, without /v1."
        ) from None


def converse(
    client: httpx.Client,
    options: dict[str, Any],
    prompt: str | None,
    system: str | None,
    images: list[str],
) -> None:
    messages: list[Message] = [{"role": "system", "content": system}] if system else []
    for text in [prompt] if prompt is not None else typed():
        messages.append({"role": "user", "content": content(text, images)})
        images = []
        answer = ""
        try:
            for piece in stream(client, {**options, "messages": messages}):
                answer += piece
                print(piece, end="", flush=True)
        except KeyboardInterrupt:
            if prompt is not None:
                raise typer.Exit(130) from None
        print()
        messages.append({"role": "assistant", "content": answer})


def typed() -> Iterator[str]:
    """Yields the lines that the user types, until end of input."""
    if sys.stdin.isatty():
        import readline  # noqa: F401  # gives input() its line editing

        print("Ctrl-C stops an answer, Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            line = input("> " if sys.stdin.isatty() else "").strip()
        except (EOFError, KeyboardInterrupt):
            return
        if line:
            yield line


def content(text: str, images: list[str]) -> str | list[dict[str, Any]]:
    if not images:
        return text
    parts = [{"type": "image_url", "image_url": {"url": image_url(image)}} for image in images]
    return [{"type": "text", "text": text}, *parts]


def image_url(image: str) -> str:
    if image.startswith(("http://", "https://", "data:")):
        return image
    try:
        data = base64.b64encode(Path(image).read_bytes()).decode()
    except OSError as error:
        raise fail(f"{image}: {error.strerror}") from None
    kind = mimetypes.guess_type(image)[0] or "image/png"
    return f"data:{kind};base64,{data}"


def stream(client: httpx.Client, request: dict[str, Any]) -> Iterator[str]:
    """Yields the pieces of text of a streamed answer."""
    body = {**request, "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.is_error:
            response.read()
        check(response)
        for line in response.iter_lines():
            if not line.startswith("data: ") or line == "data: [DONE]":
                continue
            event = json.loads(line.removeprefix("data: "))
            if "error" in event:
                raise fail(event["error"]["message"])
            for choice in event["choices"]:
                yield choice["delta"].get("content") or ""


def check(response: httpx.Response) -> None:
    if response.is_error:
        raise fail(f"{response.status_code}: {message_of(response)}")
