"""What restricts an answer: its grammar, and the tokens that it may not have."""

from vllm.sampling_params import StructuredOutputsParams

from serving.answers.vocabulary import Vocabulary
from serving.engine.grammar_check import GrammarCheck, GrammarError, GrammarTimeoutError
from serving.engine.vllm.grammar_parts import compile_alone, leave_out_unknown
from serving.mistral.grammar import ControlTokens, answer_grammar, answer_schema
from serving.requests.request import Chat, Request

_BACKEND = "guidance"
"""vLLM's backend of structured outputs. Unless it is named, an engine's first structured request
decides it, and xgrammar finds no definitions within the parameters of a tool."""

_BANNED = -100.0


def structured_outputs(request: Request, vocabulary: Vocabulary) -> StructuredOutputsParams | None:
    """Returns the grammar of a request's answer; None if nothing restricts it.

    An answer that goes on with the last message has none if it may be text: the grammar would
    require some more text or a call, so that it could not end where it is. Any other answer in a
    chat may begin with reasoning, if the tokenizer has tokens for it.
    """
    form = request.form
    if form is not None and form.constraint is not None:
        own = form.constraint
        return StructuredOutputsParams(
            regex=own.regex or None,
            choice=own.choice or None,
            grammar=own.grammar or None,
        )
    assert vocabulary.tool_calls is not None  # every version that calls tools has it
    tools = request.tools
    begins = isinstance(request.prompt, Chat) and not request.prompt.continue_final_message
    if not request.has_form and not (tools.callable and begins):
        return None
    reasoning = None
    if vocabulary.think is not None and vocabulary.end_think is not None and begins:
        reasoning = vocabulary.think, vocabulary.end_think
    schema, lenient = (form.schema, form.lenient) if form is not None else (None, False)
    if schema is not None and not tools.callable and reasoning is None:
        # Half a millisecond faster to compile, twice for each request, than the same as a grammar.
        # As text, since a schema may have integers that vLLM cannot send to its engine's process.
        return StructuredOutputsParams(json=answer_schema(schema, lenient))
    grammar = answer_grammar(
        tools.callable,
        tools.choice,
        tools.parallel,
        schema,
        ControlTokens(vocabulary.tool_calls, vocabulary.args, reasoning),
        lenient,
    )
    return StructuredOutputsParams(grammar=grammar)


async def check(
    constraint: StructuredOutputsParams,
    request: Request,
    vocabulary: Vocabulary,
    grammars: GrammarCheck,
) -> None:
    """Returns once it is known that the engine can compile the grammar; raises GrammarError if it
    cannot. What cannot be compiled of tools that are not strict, and of a lenient schema, is left
    out of the grammar. Takes the place of vLLM's own check, which compiles the grammar of each
    request in the event loop, however long that takes."""
    try:
        await compile_alone(constraint, grammars, request.cache_salt)
    except GrammarTimeoutError:
        raise
    except GrammarError as error:
        if request.form is not None and request.form.constraint is not None:
            error.field = request.form.field
            raise
        await leave_out_unknown(request, grammars)
        fitting = structured_outputs(request, vocabulary)
        assert fitting is not None
        constraint.grammar, constraint.json = fitting.grammar, fitting.json
        await compile_alone(constraint, grammars, request.cache_salt)
    constraint._backend = _BACKEND  # as vLLM's check would


def in_conflict(request: Request, tokens: int) -> list[str]:
    """Returns the fields of a request that together may leave its answer, which has that many
    tokens, no next one; none if its grammar alone restricts it."""
    sampling = request.sampling
    fields = [name for name in ("allowed_token_ids", "bad_words") if getattr(sampling, name)]
    if tokens < sampling.min_tokens:
        fields.append("min_tokens")
    if not fields:
        return []
    if request.form is not None:
        fields.append(request.form.field)
    return [*fields, "tools"] if request.tools.callable else fields


def logit_bias(request: Request, vocabulary: Vocabulary) -> dict[int, float] | None:
    """Returns a request's biases. A chat's answer that may call no tool cannot begin a call; where
    it has a grammar, that excludes it."""
    bias = request.sampling.logit_bias
    calls = vocabulary.tool_calls
    if (
        request.form is None
        and calls is not None
        and isinstance(request.prompt, Chat)
        and not request.tools.callable
    ):
        return {**(bias or {}), calls: _BANNED}
    return bias
