"""Finds the part of a grammar that does not compile, and leaves it out where that may be."""

from dataclasses import replace
from typing import Any

from vllm.sampling_params import StructuredOutputsParams
from vllm.v1.structured_output.backend_guidance import serialize_guidance_grammar
from vllm.v1.structured_output.request import get_structured_output_key

from serving.engine.grammar_check import GrammarCheck, GrammarError, GrammarTimeoutError
from serving.mistral.grammar import CallableTool, Choice, answer_schema, arguments_schema
from serving.mistral.schemas import expressions_in, without_expressions
from serving.requests.request import Chat, Request, Tools

_MOST_EXPRESSIONS = 100
"""Regular expressions of a tool that are tried one by one; with more it may be called with any
object."""


async def compile_alone(
    constraint: StructuredOutputsParams, grammars: GrammarCheck, salt: str | None
) -> None:
    """Raises GrammarError for a grammar that does not compile."""
    try:
        grammar = serialize_guidance_grammar(*get_structured_output_key(constraint))
    except (ValueError, KeyError, TypeError) as error:
        raise GrammarError(str(error)) from error
    await grammars.check(grammar, salt)


async def tools_that_compile(request: Request, grammars: GrammarCheck) -> Tools:
    """Returns the tools of a chat whose grammar does not compile, those that are not strict without
    what llguidance does not know. Raises GrammarError, which names the field, where a strict tool
    or the schema of the text is to blame.

    Parts are compiled one after another, and one that takes too long ends the search.
    """
    assert isinstance(request.prompt, Chat)
    choice = request.tools.choice
    search = _Search(grammars, request.cache_salt, choice)
    if request.schema is not None and choice == "auto":
        await search.check(answer_schema(request.schema, request.lenient), request.form_field)
    tools = [
        await search.tool(tool, request.prompt.schema_path(tool.name))
        for tool in request.tools.callable
    ]
    return replace(request.tools, callable=tools)


class _Search:
    def __init__(self, grammars: GrammarCheck, salt: str | None, choice: Choice) -> None:
        self._grammars = grammars
        self._salt = salt
        self._choice = choice

    async def tool(self, tool: CallableTool, field: str) -> CallableTool:
        if tool.strict:
            await self.check(arguments_schema(tool, self._choice), field)
        if tool.strict or await self._compiles(arguments_schema(tool, self._choice)):
            return tool
        parameters = tool.parameters or {}
        expressions = expressions_in(parameters)
        if len(expressions) > _MOST_EXPRESSIONS:
            return replace(tool, parameters=None)
        unknown = [
            expression
            for expression in expressions
            if not await self._compiles({"type": "string", "pattern": expression})
        ]
        known = replace(tool, parameters=without_expressions(parameters, unknown))
        if await self._compiles(arguments_schema(known, self._choice)):
            return known
        return replace(tool, parameters=None)

    async def check(self, schema: str | dict[str, Any], field: str) -> None:
        """Raises GrammarError, which names the field, for a schema that does not compile."""
        try:
            await compile_alone(StructuredOutputsParams(json=schema), self._grammars, self._salt)
        except GrammarError as error:
            error.field = field
            raise

    async def _compiles(self, schema: dict[str, Any]) -> bool:
        try:
            await compile_alone(StructuredOutputsParams(json=schema), self._grammars, self._salt)
        except GrammarTimeoutError:
            raise
        except GrammarError:
            return False
        return True
