"""Finds the part of a grammar that does not compile, and leaves it out where that may be."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_guidance import serialize_guidance_grammar
from vllm.v1.structured_output.request import get_structured_output_key

from serving.engine.grammar_check import GrammarCheck, GrammarError, GrammarTimeoutError
from serving.mistral.grammar import CallableTool, Choice, answer_schema, arguments_schema
from serving.mistral.schemas import expressions_in, without_expressions
from serving.requests.request import Chat, Request

Schema = Mapping[str, Any]

_MOST_EXPRESSIONS = 100
"""Regular expressions of a schema that are tried one by one; a tool with more may be called with
any object."""


async def compile_alone(
    constraint: StructuredOutputsParams, grammars: GrammarCheck, salt: str | None
) -> None:
    """Raises GrammarError for a grammar that does not compile."""
    try:
        grammar = serialize_guidance_grammar(*get_structured_output_key(constraint))
    except (ValueError, KeyError, TypeError) as error:
        raise GrammarError(str(error)) from error
    await grammars.check(grammar, salt)


async def leave_out_unknown(request: Request, grammars: GrammarCheck) -> None:
    """Leaves out what llguidance does not know of a request whose grammar does not compile: of its
    tools that are not strict, and of a lenient schema. Raises GrammarError, which names the field,
    where a strict tool or the schema of the text is to blame.

    Parts are compiled one after another, and one that takes too long ends the search.
    """
    search = _Search(grammars, request.cache_salt, request.tools.choice)
    form = request.form
    if form is not None and form.schema is not None and request.tools.choice == "auto":
        schema = await search.form(form.schema, form.lenient, form.field)
        request.form = replace(form, schema=schema)
    if not request.tools.callable:
        return
    assert isinstance(request.prompt, Chat)
    tools = [
        await search.tool(tool, request.prompt.schema_path(tool.name))
        for tool in request.tools.callable
    ]
    request.tools = replace(request.tools, callable=tools)


class _Search:
    def __init__(self, grammars: GrammarCheck, salt: str | None, choice: Choice) -> None:
        self._grammars = grammars
        self._salt = salt
        self._choice = choice

    async def form(self, schema: Schema, lenient: bool, field: str) -> Schema:
        try:
            await self._check(answer_schema(schema, lenient), field)
        except GrammarTimeoutError:
            raise
        except GrammarError:
            if not lenient:
                raise
            schema = await self._known(schema)
            await self._check(answer_schema(schema, lenient), field)
        return schema

    async def tool(self, tool: CallableTool, field: str) -> CallableTool:
        if tool.strict:
            await self._check(arguments_schema(tool, self._choice), field)
        if tool.strict or await self._compiles(arguments_schema(tool, self._choice)):
            return tool
        known = replace(tool, parameters=await self._known(tool.parameters or {}))
        if await self._compiles(arguments_schema(known, self._choice)):
            return known
        return replace(tool, parameters=None)

    async def _known(self, schema: Schema) -> Schema:
        """Returns a schema without the regular expressions that llguidance does not know."""
        expressions = expressions_in(schema)
        if len(expressions) > _MOST_EXPRESSIONS:
            return schema
        unknown = [
            expression
            for expression in expressions
            if not await self._compiles({"type": "string", "pattern": expression})
        ]
        return without_expressions(schema, unknown)

    async def _check(self, schema: str | dict[str, Any], field: str) -> None:
        """Raises GrammarError, which names the field, for a schema that does not compile."""
        try:
            await compile_alone(StructuredOutputsParams(json=schema), self._grammars, self._salt)
        except GrammarError as error:
            error.field = field
            raise

    async def _compiles(self, schema: str | dict[str, Any]) -> bool:
        try:
            await compile_alone(StructuredOutputsParams(json=schema), self._grammars, self._salt)
        except GrammarTimeoutError:
            raise
        except GrammarError:
            return False
        return True
