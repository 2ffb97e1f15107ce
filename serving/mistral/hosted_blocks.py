"""Rules for blocks of /v1/messages that stem from tools of Anthropic's own service: a session that
was begun there has them in its history with every request."""

from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.hosted_tools import known_name

_TOOLS = (
    "advisor",
    "bash_code_execution",
    "code_execution",
    "text_editor_code_execution",
    "tool_search_tool",
    "web_fetch",
    "web_search",
)
_OTHERS = ("compaction", "container_upload", "fallback", "mcp_tool_listing")
_BLOCKS = (
    {f"{name.removesuffix('_tool')}_tool_result": name for name in _TOOLS}
    | {"mcp_tool_use": "mcp", "mcp_tool_result": "mcp"}
    | {name: name for name in _OTHERS}
)
"""The tool, or whatever else, that the types of blocks belong to."""

_CALL = ("id", "name", "input")


def replace_by_summary(draft: Draft) -> None:
    """Replaces what Anthropic's service has compacted by its summary, as that service does."""
    messages = draft.objects("messages")
    for index in reversed(range(len(messages))):
        message = messages[index]
        blocks: Any = message.get("content")
        places = [place for place, block in enumerate(_list(blocks)) if _is_summary(block)]
        if not places:
            continue
        turns: list[Fields] = [{"role": "user", "content": blocks[places[-1]]["content"]}]
        if rest := blocks[places[-1] + 1 :]:
            turns.append({**message, "content": rest})
        draft.replace("messages", [*turns, *messages[index + 1 :]])
        return


def _list(value: Any) -> list[Any]:
    return value if type(value) is list else []


def _is_summary(block: Any) -> bool:
    if type(block) is not dict or block.get("type") != "compaction":
        return False
    return type(block.get("content")) is str and block["content"] != ""


def convert_hosted_blocks(draft: Draft) -> None:
    """Makes calls with results of what the model can read, and drops what only Anthropic can. The
    model's words about it stay."""
    turns: list[Fields] = []
    for message in draft.objects("messages"):
        blocks = objects_in(message.get("content"))
        if message.get("role") == "assistant" and any(map(_hosted, blocks)):
            turns += _turns(message, draft)
        else:
            turns.append(message)
    draft.replace("messages", turns)


def _turns(message: Fields, draft: Draft) -> list[Fields]:
    """Returns a turn as the turns that it would have been with tools of the client's: the calls of
    hosted tools, their results, and what the model said then. Calls that the client is to answer
    come last, as its answers follow."""
    readable = _readable_results(message)
    answered: set[str] = set()
    turns: list[Fields] = []
    said: list[Any] = []
    results: list[Fields] = []
    calls: list[Fields] = []
    for block in message["content"]:
        kind = _hosted(block)
        if kind is None and type(block) is dict and block.get("type") == "tool_use":
            calls.append(block)
        elif kind is None:
            if results:
                turns += [{**message, "content": said}, {"role": "user", "content": results}]
                said, results = [], []
            said.append(block)
        elif (id := str(block.get("id"))) in readable and _is_call(block):
            said.append({"type": "tool_use", **{key: block.get(key) for key in _CALL}})
            results.append({"type": "tool_result", "tool_use_id": id, "content": readable[id]})
            answered.add(id)
        elif _is_call(block) or str(block.get("tool_use_id")) not in answered:
            draft.warn(f"{kind} of earlier turns was dropped: only Anthropic's service can use it")
    if results:
        turns += [{**message, "content": said}, {"role": "user", "content": results}]
        said = []
    if said or calls or not turns:
        turns.append({**message, "content": [*said, *calls]})
    return turns


def _hosted(block: Any) -> str | None:
    """Returns what of Anthropic's own a block belongs to; None for all others."""
    kind = block.get("type") if type(block) is dict else None
    if kind == "server_tool_use":
        return known_name(block.get("name"), _TOOLS)
    return _BLOCKS.get(kind) if type(kind) is str else None


def _is_call(block: Fields) -> bool:
    return block["type"] in ("server_tool_use", "mcp_tool_use")


def _readable_results(message: Fields) -> dict[str, Any]:
    """Returns the contents of results that are texts, by the ids of their calls."""
    contents: dict[str, Any] = {}
    for block in objects_in(message["content"]):
        content = block.get("content", "")
        if block.get("type") == "web_fetch_tool_result":
            content = _page(content)
        elif block.get("type") != "mcp_tool_result":
            continue
        if content is not None:
            contents[str(block.get("tool_use_id"))] = content
    return contents


def _page(result: Any) -> Any:
    """Returns the content of a page that was fetched, or why it was not; None for a PDF."""
    match result:
        case {"content": {"source": {"type": "text", "data": str()}}}:
            return [result["content"]]
        case {"error_code": str(code)}:
            return code
    return None
