"""Rules for what the input of a tool may be."""

import re
from collections.abc import Iterator
from typing import Any

from serving.mistral.draft import Draft, Fields, objects_in
from serving.mistral.rules import InvalidRequest
from serving.mistral.schemas import schemas_in

_OTHER_TYPES = ("array", "boolean", "integer", "null", "number", "string")

_is_read_by_llama_cpp = re.compile(r"\^(?:[^\\^$(]|\[\^|\((?!\?))*\$").fullmatch
"""Matches the regular expressions of whole texts that have no more than groups and classes."""
_LLAMA_CPP_MAX_CHARACTERS = 1000
"""It takes fewer than 2,000 repetitions (`MAX_REPETITION_THRESHOLD`), nested ones multiplied."""


def refuse_other_than_objects(draft: Draft) -> None:
    """Rejects a tool whose input is no object: answers and turns have objects alone."""
    for path, schema, _ in _inputs(draft):
        kind = schema.get("type")
        types: list[Any] = kind if type(kind) is list else [kind]
        if types and all(one in _OTHER_TYPES for one in types):
            raise InvalidRequest(
                f'{path} must be a JSON Schema of the type "object", not {" or ".join(types)}.',
                param=path,
            )


def relax_texts(draft: Draft) -> None:
    """Leaves out what llama.cpp's grammars of tools cannot say of texts: its server, Ollama's and
    LM Studio's refuse each request that has such a tool. Strict tools keep all."""
    for _, schema, tool in _inputs(draft):
        if tool.get("strict") is True:
            continue
        for one in schemas_in(schema):
            pattern, characters = one.get("pattern"), one.get("maxLength")
            if type(pattern) is str and not _is_read_by_llama_cpp(pattern):
                del one["pattern"]
                draft.changed = True
            if isinstance(characters, int | float) and characters > _LLAMA_CPP_MAX_CHARACTERS:
                del one["maxLength"]
                draft.changed = True


def _inputs(draft: Draft) -> Iterator[tuple[str, Fields, Fields]]:
    """Yields where each tool has the schema of its input, the schema, and what has it."""
    tools = draft.fields.get("tools")
    pending = [("tools", tools)]
    while pending:
        path, tools = pending.pop()
        for index, tool in enumerate(tools if type(tools) is list else ()):
            if type(tool) is not dict:
                continue
            where = f"{path}[{index}]"
            pending.append((f"{where}.tools", tool.get("tools")))
            holder = tool.get("function")
            if type(holder) is dict:
                where += ".function"
            else:
                holder = tool
            for name in ("parameters", "input_schema"):
                if type(holder.get(name)) is dict:
                    yield f"{where}.{name}", holder[name], holder


def identify_schemas(draft: Draft) -> None:
    """Gives parameters that refer to their own parts (`"$ref": "#/$defs/Address"`, `"#"`) an `$id`.

    Under tokenizer v7 a plain vLLM, which a backend may be, puts the parameters of each tool into
    one schema of all calls, at whose root a reference would be looked up; a schema with an `$id` is
    looked up in itself. The grammar of our engines needs no `$id`.
    """
    choice = draft.fields.get("tool_choice")
    if draft.rules.tokenizer != "v7" or not (choice == "required" or type(choice) is dict):
        return
    for index, tool in enumerate(objects_in(draft.fields.get("tools"))):
        function = tool.get("function")
        schema = function.get("parameters") if type(function) is dict else tool.get("input_schema")
        if type(schema) is dict and "$id" not in schema and _refers(schema):
            schema["$id"] = f"urn:tool:{index}"
            draft.changed = True


def _refers(schema: Any) -> bool:
    if type(schema) is dict:
        return "$ref" in schema or any(map(_refers, schema.values()))
    return type(schema) is list and any(map(_refers, schema))


def warn_of_lark_grammars(draft: Draft) -> None:
    """Warns of grammars of custom tools that are described to the model, but not enforced."""
    for tool in draft.objects("tools"):
        inner = [*objects_in(tool.get("tools")), *objects_in([tool.get("custom")])]
        for format in objects_in([one.get("format") for one in (tool, *inner)]):
            grammar = format.get("grammar", format)  # the chat API has one object more around it
            if type(grammar) is dict and grammar.get("syntax") == "lark":
                draft.warn("a Lark grammar is described to the model, and not enforced")
