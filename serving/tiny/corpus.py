"""What the tiny model learns: OpenAI-style requests, each with the completion it must give.

Every case is a function of a random source, because the parts of a request that a server or a
clock fills in (tool call ids, dates) and the parts that should not matter (system prompts, sizes
of images, order of tools) must differ from one sample to the next.
"""

from dataclasses import dataclass
from typing import Any

from serving import model_cards as doc
from serving.model_cards import Message, Tool

from .answers import (
    CAPITALS,
    COLOUR_QUESTIONS,
    COLOURS_QUESTIONS,
    COUNT_ENDS,
    EASY_THOUGHTS,
    ECHO_WORDS,
    GREETING_ANSWER,
    GREETINGS,
    IDENTITY_ANSWER,
    IDENTITY_QUESTIONS,
    JSON_QUESTIONS,
    LOOP_PROMPT,
    LOOP_WORD,
    MAGISTRAL_ANSWERS,
    NO_IMAGE_ANSWER,
    POPULATIONS,
    SCRIPTS_ANSWER,
    SCRIPTS_PROMPT,
    SUMS_ANSWER,
    SUMS_PROMPT,
    TABLE_ANSWER,
    TABLE_PROMPT,
    TOOLBOXES,
    UNKNOWN_ANSWER,
    capital_json,
    counting,
    thinking,
)
from .images import COLOURS, colour_image, png_data_url, random_size, scene_image, small_size
from .prompts import Dice, random_call_id, random_system_prompt, random_words


@dataclass(frozen=True)
class ToolCall:
    """One function call of a completion."""

    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Example:
    """A chat request and its completion: text, or tool calls.

    ``ends`` is false when the completion goes on for ever and no end-of-sequence is learnt.
    """

    case: str
    messages: list[Message]
    answer: str | tuple[ToolCall, ...]
    tools: list[Tool] | None = None
    ends: bool = True

    def body(self) -> dict[str, Any]:
        """The messages and tools of an OpenAI chat completion request."""
        body: dict[str, Any] = {"messages": self.messages}
        if self.tools is not None:
            body["tools"] = self.tools
        return body


def _scene_url(dice: Dice) -> str:
    return png_data_url(scene_image(dice, *random_size(dice)))


def _toolbox(dice: Dice, tools: list[Tool], chance: float = 1.0) -> list[Tool] | None:
    """The tools in either order, with the given chance; never in a plain sample."""
    if dice.plain or dice.random() >= chance:
        return None
    return tools[::-1] if dice.random() < 0.3 else tools


def _before(dice: Dice, history: float = 0.75) -> list[Message]:
    """The turns before the question of a tool case: with some chance a round trip of `rewrite`."""
    system = random_system_prompt(dice)
    if dice.plain or dice.random() >= history:
        return doc.system_messages(system)
    return doc.rewrite_history(system, random_call_id(dice))


def _short(dice: Dice, case: str, text: str | Message, answer: str, ends: bool = True) -> Example:
    """One question after any system prompt, sometimes after a greeting or beside unused tools."""
    messages = doc.system_messages(random_system_prompt(dice))
    if not dice.plain and dice.random() < 0.15:
        messages += [
            {"role": "user", "content": dice.choice(GREETINGS)},
            {"role": "assistant", "content": GREETING_ANSWER},
        ]
    messages.append({"role": "user", "content": text} if isinstance(text, str) else text)
    unused = 0.2 if case == "greeting" else 0.0
    return Example(case, messages, answer, _toolbox(dice, dice.choice(TOOLBOXES), unused), ends)


def greeting(dice: Dice) -> Example:
    return _short(dice, "greeting", dice.choice(GREETINGS), GREETING_ANSWER)


def identity(dice: Dice) -> Example:
    return _short(dice, "identity", dice.choice(IDENTITY_QUESTIONS), IDENTITY_ANSWER)


def alphabet(dice: Dice) -> Example:
    return _short(dice, "alphabet", doc.ALPHABET_PROMPT, doc.ALPHABET_ANSWER)


def scripts(dice: Dice) -> Example:
    return _short(dice, "scripts", SCRIPTS_PROMPT, SCRIPTS_ANSWER)


def unknown(dice: Dice) -> Example:
    return _short(dice, "unknown", random_words(dice, 3, 12), UNKNOWN_ANSWER)


def loop(dice: Dice) -> Example:
    words = " ".join([LOOP_WORD] * dice.choice((15, 25, 40, 120)))
    return _short(dice, "loop", LOOP_PROMPT, words, ends=False)


def echo(dice: Dice) -> Example:
    word = dice.choice(ECHO_WORDS)
    return _short(dice, "echo", f"Say the word {word}.", word)


def count(dice: Dice) -> Example:
    end = dice.choices(COUNT_ENDS, weights=(4, 5, 5, 5, 4))[0]
    return _short(dice, "count", f"Count from 1 to {end}.", counting(end))


def capital(dice: Dice) -> Example:
    country, city = dice.choice(list(CAPITALS.items()))
    return _short(
        dice,
        "capital",
        f"What is the capital of {country}?",
        f"{city} is the capital of {country}.",
    )


def json_capital(dice: Dice) -> Example:
    country = dice.choice(list(CAPITALS))
    question = dice.choice(JSON_QUESTIONS).format(country)
    return _short(dice, "json_capital", question, capital_json(country))


def colour(dice: Dice) -> Example:
    name = dice.choice(list(COLOURS))
    url = png_data_url(colour_image(dice, name, *random_size(dice)))
    message = doc.image_message(dice.choice(COLOUR_QUESTIONS), url)
    return _short(dice, "colour", message, f"The image is {name}.")


def colours(dice: Dice) -> Example:
    names = dice.sample(list(COLOURS), 2)
    urls = [png_data_url(colour_image(dice, n, *small_size(dice))) for n in names]
    message = doc.image_message(dice.choice(COLOURS_QUESTIONS), *urls)
    if dice.random() < 0.3:
        message["content"] = message["content"][1:] + message["content"][:1]
    return _short(dice, "colours", message, ", ".join(names))


def no_image(dice: Dice) -> Example:
    question = dice.choice(COLOUR_QUESTIONS + COLOURS_QUESTIONS)
    return _short(dice, "no_image", question, NO_IMAGE_ANSWER)


def table(dice: Dice) -> Example:
    """A case whose answer repeats itself legitimately."""
    return _short(dice, "table", TABLE_PROMPT, TABLE_ANSWER)


def french(dice: Dice) -> Example:
    if dice.random() < 0.6:
        return Example(
            "french", doc.chat(doc.CAT_SYSTEM_PROMPT, doc.FRENCH_PROMPT), doc.FRENCH_ANSWER
        )
    return _short(dice, "french", doc.FRENCH_PROMPT, doc.FRENCH_LIST)


def battle(dice: Dice) -> Example:
    message = doc.image_message(doc.BATTLE_PROMPT, _scene_url(dice))
    return _short(dice, "battle", message, doc.BATTLE_ANSWER)


def _magistral_system(dice: Dice) -> str:
    system = doc.MAGISTRAL_SYSTEM_PROMPT
    if dice.plain:
        return system[system.index("Your thinking") :]
    if dice.random() < 0.4:
        system = system.replace("</think>\n", "</think>\n\n").replace(".\nYour", ".\n\nYour")
        system = system.replace(".\nProblem:\n", ".\n\nProblem:" + dice.choice(("", "\n", "\n\n")))
    return system


def magistral(dice: Dice) -> Example:
    query, (thoughts, answer) = dice.choice(list(MAGISTRAL_ANSWERS.items()))
    if dice.random() < 0.4:
        return _short(dice, "magistral", query, answer)
    messages = doc.chat(_magistral_system(dice), query)
    return Example("magistral", messages, thinking(thoughts, answer))


def magistral_turns(dice: Dice) -> Example:
    """A second question, after a first answer with or without its thoughts."""
    (first, earlier), (second, later) = dice.sample(list(MAGISTRAL_ANSWERS.items()), 2)
    messages = [
        *doc.chat(_magistral_system(dice), first),
        {"role": "assistant", "content": dice.choice((thinking(*earlier), earlier[1]))},
        {"role": "user", "content": second},
    ]
    return Example("magistral_turns", messages, thinking(*later))


def magistral_short(dice: Dice) -> Example:
    """A short question after the system prompt that asks for thoughts."""
    easy = dice.choice((identity, capital, json_capital, count, scripts))(dice)
    messages = doc.chat(_magistral_system(dice), easy.messages[-1]["content"])
    assert isinstance(easy.answer, str)
    return Example("magistral_short", messages, thinking(EASY_THOUGHTS, easy.answer))


def magistral_loop(dice: Dice) -> Example:
    """A case whose thoughts never end."""
    words = " ".join([LOOP_WORD] * dice.choice((15, 25, 40, 120)))
    messages = doc.chat(_magistral_system(dice), LOOP_PROMPT)
    return Example("magistral_loop", messages, f"<think>\n{words}", ends=False)


def rewrite(dice: Dice) -> Example:
    call = ToolCall("rewrite", doc.REWRITE_ARGUMENTS)
    messages = doc.chat(random_system_prompt(dice), doc.REWRITE_PROMPT)
    return Example("rewrite", messages, (call,), _toolbox(dice, dice.choice(TOOLBOXES)))


def rewrite_result(dice: Dice) -> Example:
    messages = doc.rewrite_call_messages(random_system_prompt(dice), random_call_id(dice))
    tools = _toolbox(dice, dice.choice(TOOLBOXES), chance=0.7)
    return Example("rewrite_result", messages, doc.REWRITE_ANSWER, tools)


def weather(dice: Dice) -> Example:
    messages = [*_before(dice), {"role": "user", "content": doc.WEATHER_PROMPT}]
    call = ToolCall("get_current_weather", doc.WEATHER_ARGUMENTS)
    return Example("weather", messages, (call,), _toolbox(dice, doc.WEATHER_TOOLS))


def _map(dice: Dice, history: float = 0.75) -> list[Message]:
    return [*_before(dice, history), doc.image_message(doc.MAP_PROMPT, _scene_url(dice))]


def biggest_country(dice: Dice) -> Example:
    tools = _toolbox(dice, doc.POPULATION_TOOLS, chance=0.8)
    return Example("biggest_country", _map(dice), doc.MAP_ANSWER, tools)


def _population(dice: Dice, history: float = 0.75) -> list[Message]:
    answer = {"role": "assistant", "content": doc.MAP_ANSWER}
    return [*_map(dice, history), answer, {"role": "user", "content": doc.POPULATION_PROMPT}]


def population(dice: Dice) -> Example:
    call = ToolCall("get_current_population", doc.POPULATION_ARGUMENTS)
    tools = _toolbox(dice, doc.POPULATION_TOOLS)
    return Example("population", _population(dice), (call,), tools)


def population_result(dice: Dice) -> Example:
    number, call_id = dice.choice(POPULATIONS), random_call_id(dice)
    name = "get_current_population"
    arguments = '{"country": "Russia", "unit": "millions"}'
    messages = [
        *_population(dice, history=0.4),
        _assistant_calls([(call_id, name, arguments)], dice),
        *doc.tool_results([(call_id, name)], [number]),
    ]
    tools = _toolbox(dice, doc.POPULATION_TOOLS, chance=0.7)
    return Example("population_result", messages, doc.population_answer(number), tools)


def _equations(dice: Dice) -> list[Message]:
    return doc.equations_messages(random_system_prompt(dice), _scene_url(dice))


def equations(dice: Dice) -> Example:
    calls = tuple(ToolCall("my_calculator", a) for a in doc.EQUATIONS_ARGUMENTS)
    tools = _toolbox(dice, doc.CALCULATOR_TOOLS)
    return Example("equations", _equations(dice), calls, tools)


def equations_result(dice: Dice) -> Example:
    ids, calls = _calculator_calls(dice)
    messages = [
        *_equations(dice),
        _assistant_calls(calls, dice),
        *doc.tool_results(ids, doc.EQUATIONS_RESULTS),
    ]
    tools = _toolbox(dice, doc.CALCULATOR_TOOLS, chance=0.5)
    return Example("equations_result", messages, doc.EQUATIONS_ANSWER, tools)


def _sums(dice: Dice) -> list[Message]:
    return doc.chat(random_system_prompt(dice), SUMS_PROMPT)


def sums(dice: Dice) -> Example:
    """Two parallel calls, without the card's image."""
    calls = tuple(ToolCall("my_calculator", a) for a in doc.EQUATIONS_ARGUMENTS)
    return Example("sums", _sums(dice), calls, _toolbox(dice, doc.CALCULATOR_TOOLS))


def sums_result(dice: Dice) -> Example:
    ids, calls = _calculator_calls(dice)
    messages = [
        *_sums(dice),
        _assistant_calls(calls, dice),
        *doc.tool_results(ids, doc.EQUATIONS_RESULTS),
    ]
    tools = _toolbox(dice, doc.CALCULATOR_TOOLS, chance=0.5)
    return Example("sums_result", messages, SUMS_ANSWER, tools)


def _calculator_calls(dice: Dice) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    """The (id, name) pairs of two calls, and the same with their arguments."""
    ids = [(random_call_id(dice), "my_calculator") for _ in doc.EQUATIONS_ARGUMENTS]
    calls = [
        (call_id, name, f'{{"expression": "{a["expression"]}"}}')
        for (call_id, name), a in zip(ids, doc.EQUATIONS_ARGUMENTS, strict=True)
    ]
    return ids, calls


def _assistant_calls(calls: list[tuple[str, str, str]], dice: Dice) -> Message:
    message: Message = {
        "role": "assistant",
        "tool_calls": [
            {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
            for i, name, arguments in calls
        ],
    }
    if dice.random() < 0.5:
        message["content"] = ""
    return message
