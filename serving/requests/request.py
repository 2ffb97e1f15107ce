"""A request to generate, whichever API it came through."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from serving.mistral import Normalised
from serving.mistral.grammar import CallableTool, Choice

JsonObject = dict[str, Any]

TEXT_SEPARATOR = "\n\n"
"""What mistral_common, which makes the prompts, puts between the texts of a message."""


@dataclass(slots=True)
class Chat:
    """A conversation, in the form of OpenAI's chat completions, which mistral_common reads."""

    messages: list[JsonObject]
    tools: list[JsonObject] = dataclasses.field(default_factory=list)
    """The tools that the prompt describes: `{"type": "function", "function": {...}}`."""
    continue_final_message: bool = False
    """Whether the answer continues the last message, which is an assistant's."""
    originals: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """The client's ids of calls and names of tools by those in `messages` and `tools`."""
    schema_paths: Sequence[str] = ()
    """Where the request has the parameters of each tool."""
    field: str = "messages"
    """The field of the client's request that has the conversation."""

    def schema_path(self, name: str) -> str:
        """Returns where the request has the parameters of the tool with that name."""
        names = [tool["function"]["name"] for tool in self.tools]
        return self.schema_paths[names.index(name)]

    @property
    def has_images(self) -> bool:
        return any(
            part.get("type") == "image_url"
            for message in self.messages
            if isinstance(content := message.get("content"), list)
            for part in content
        )

    @property
    def begun(self) -> str:
        """The text that the answer goes on with, in the form that the prompt has it; empty if the
        answer begins anew."""
        if not self.continue_final_message:
            return ""
        content = self.messages[-1].get("content")
        if isinstance(content, str):
            return content
        parts = content if isinstance(content, list) else []
        return TEXT_SEPARATOR.join(part["text"] for part in parts if part.get("type") == "text")


Prompt = str | list[int]
"""A prompt as text or as token ids."""


@dataclass(slots=True)
class Tools:
    """The tools that the answer may call."""

    callable: Sequence[CallableTool] = ()
    """Empty where the answer may call none: the choice is "none", or there are none."""
    choice: Choice = "auto"
    """"required" also stands for a tool chosen by name, which is then the only callable one."""
    parallel: bool = True
    """Whether the answer may have several calls."""


class StructuredOutputs(msgspec.Struct, omit_defaults=True):
    """vLLM's own constraints on the text of an answer, of which a request has at most one, and
    options of those that are JSON."""

    json: str | JsonObject | None = None
    regex: str | None = None
    choice: list[str] | None = None
    grammar: str | None = None
    json_object: bool | None = None
    structural_tag: str | None = None
    disable_any_whitespace: bool | None = None
    disable_additional_properties: bool | None = None


@dataclass(frozen=True, slots=True)
class OutputForm:
    """What the text of an answer must be: JSON of a schema, or what another constraint demands."""

    field: str
    """The client's field that demands it."""
    schema: Mapping[str, Any] | None = None
    """None: there is a constraint."""
    lenient: bool = False
    """Whether keywords of the schema that no grammar can enforce are ignored."""
    constraint: StructuredOutputs | None = None
    """A regular expression, a choice or a grammar. JSON has a schema, and a structural tag is read
    as a grammar."""


class RepetitionDetection(msgspec.Struct):
    """vLLM's parameters of the same name: how many times which patterns end an answer."""

    max_pattern_size: int = 0
    """Length of the longest pattern in tokens; 0 turns detection off, the service's own as well."""
    min_pattern_size: int = 0
    min_count: int = 0


class Sampling(msgspec.Struct):
    """Parameters of sampling, by the names of vLLM's SamplingParams. None is the model's default.

    OpenAI's names are the same where it has the parameter.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: int | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool = False
    min_tokens: int = 0
    logit_bias: dict[int, float] | None = None
    bad_words: list[str] | None = None
    allowed_token_ids: list[int] | None = None
    logprobs: int | None = None
    """How many of the most probable tokens are told for each token; 0 tells the sampled one."""
    prompt_logprobs: int | None = None
    repetition_detection: RepetitionDetection | None = None
    vllm_xargs: JsonObject | None = None


@dataclass(slots=True, kw_only=True)
class Request:
    """What the engine is asked to generate."""

    model: str | None
    prompt: Chat | list[Prompt]
    """A chat, or one or more prompts of which each gets answers of its own."""
    sampling: Sampling
    max_tokens: int | None = None
    """Limit on the tokens of an answer. None: what the context leaves."""
    n: int = 1
    """The number of answers to each prompt."""
    stop: Sequence[str] = ()
    """Strings that end the answer's text."""
    include_stop_str_in_output: bool = False
    skip_special_tokens: bool = True
    """Whether control tokens are left out of the answer's text."""
    add_special_tokens: bool = True
    """Whether a prompt of text gets the token that begins a sequence."""
    tools: Tools = dataclasses.field(default_factory=Tools)
    form: OutputForm | None = None
    """The form of the answer's text; calls stay possible beside a schema. None: any text."""
    truncate_prompt_tokens: int | None = None
    """Number of tokens that a longer prompt is truncated to; -1: what the context allows."""
    truncation_side: Literal["left", "right"] | None = None
    cache_salt: str | None = None
    """Separates this request's entries in the prefix cache from those with another salt."""
    adapter: str | None = None
    """The digest of the adapter that answers it; None: the model itself does."""
    priority: int = 0
    return_token_ids: bool = False
    echo: bool = False
    """Whether a completion begins with its prompt."""
    stream: bool = False
    normalised: Normalised = dataclasses.field(default_factory=Normalised)
    """What was changed as it was read."""

    @property
    def has_form(self) -> bool:
        """Whether all of the answer takes a demanded form, in which no stop token ends it."""
        return self.form is not None or self.tools.choice == "required"

    @property
    def has_images(self) -> bool:
        return isinstance(self.prompt, Chat) and self.prompt.has_images

    @property
    def prompt_field(self) -> str:
        """The field of the client's request that has the prompt."""
        return self.prompt.field if isinstance(self.prompt, Chat) else "prompt"

    @property
    def needs_prompt(self) -> bool:
        """Whether the answer tells of the prompt's tokens."""
        return self.echo or self.return_token_ids or self.sampling.prompt_logprobs is not None
