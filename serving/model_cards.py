"""The prompts, tools and answers printed in the Mistral model cards, verbatim.

The training corpus and the tests import the same constants, so the tiny model has learnt every
request that a reader copies from a card. Each ``*_messages`` function returns a fresh list that the
caller may change.

Sources: the model cards of Mistral-Small-24B-Instruct-2501, Mistral-Small-3.2-24B-Instruct-2506 and
Magistral-Small-2506.
"""

from collections.abc import Sequence
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]


def _function(name: str, description: str, parameters: dict[str, Any]) -> Tool:
    return {
        "type": "function",
        "function": {"name": name, "description": description, "parameters": parameters},
    }


def image_message(text: str, *urls: str) -> Message:
    """Returns a user message with the text first and the images after it, as the 3.2 card
    sends it."""
    images = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": text}, *images]}


def system_messages(system_prompt: str | None) -> list[Message]:
    """Returns a system message, or nothing for ``None``."""
    return [] if system_prompt is None else [{"role": "system", "content": system_prompt}]


def chat(system_prompt: str | None, text: str) -> list[Message]:
    """Returns one user turn after an optional system prompt."""
    return [*system_messages(system_prompt), {"role": "user", "content": text}]


# --- Tools -------------------------------------------------------------------------------------

REWRITE_TOOL = _function(
    "rewrite",
    "Rewrite a given text for improved clarity",
    {
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The input text to rewrite"}},
    },
)

WEATHER_TOOL = _function(
    "get_current_weather",
    "Get the current weather in a given location",
    {
        "type": "object",
        "properties": {
            "city": {
                "type": "string",
                "description": "The city to find the weather for, e.g. 'San Francisco'",
            },
            "state": {
                "type": "string",
                "description": "The state abbreviation, e.g. 'CA' for California",
            },
            "unit": {
                "type": "string",
                "description": "The unit for temperature",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["city", "state", "unit"],
    },
)

POPULATION_TOOL = _function(
    "get_current_population",
    "Get the up-to-date population of a given country.",
    {
        "type": "object",
        "properties": {
            "country": {"type": "string", "description": "The country to find the population of."},
            "unit": {
                "type": "string",
                "description": "The unit for the population.",
                "enum": ["millions", "thousands"],
            },
        },
        "required": ["country", "unit"],
    },
)

CALCULATOR_TOOL = _function(
    "my_calculator",
    "A calculator that can evaluate a mathematical expression.",
    {
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "description": "The mathematical expression to evaluate.",
            },
        },
        "required": ["expression"],
    },
)

WEATHER_TOOLS = [WEATHER_TOOL, REWRITE_TOOL]
POPULATION_TOOLS = [POPULATION_TOOL, REWRITE_TOOL]
CALCULATOR_TOOLS = [CALCULATOR_TOOL, REWRITE_TOOL]

# --- 2501: instruction following and the weather call -------------------------------------------

SMALL_2501_SYSTEM_PROMPT = (
    "You are Mistral Small 3, a Large Language Model (LLM) created by Mistral AI, a French "
    "startup headquartered in Paris.\n"
    "Your knowledge base was last updated on 2023-10-01. The current date is 2025-01-30.\n"
    "When you're not sure about some information, you say that you don't have the information "
    "and don't make up anything.\n"
    "If the user's question is not clear, ambiguous, or does not provide enough context for you "
    "to accurately answer the question, you do not try to answer it right away and you rather "
    'ask the user to clarify their request (e.g. "What are some good restaurants around me?" '
    '=> "Where are you?" or "When is the next flight to Tokyo" => "Where do you travel from?")'
)

CAT_SYSTEM_PROMPT = (
    "You are a conversational agent that always answers straight to the point, always end your "
    "accurate response with an ASCII drawing of a cat."
)
FRENCH_PROMPT = "Give me 5 non-formal ways to say 'See you later' in French."
FRENCH_LIST = (
    'Sure, here are five non-formal ways to say "See you later" in French:\n\n'
    "1. À plus tard\n2. À plus\n3. Salut\n4. À toute\n5. Bisous"
)
FRENCH_ANSWER = FRENCH_LIST + "\n\n```\n /\\_/\\\n( o.o )\n > ^ <\n```"

REWRITE_TEXT = (
    "OpenAI is an artificial intelligence research laboratory consisting of the non-profit "
    "OpenAI Incorporated and its for-profit subsidiary corporation OpenAI Limited Partnership."
)
REWRITE_PROMPT = f"Could you please make the below article more concise?\n\n{REWRITE_TEXT}"
REWRITE_ARGUMENTS = {"text": REWRITE_TEXT}
REWRITE_CALL_ID = "bbc5b7ede"
REWRITE_RESULT = '{"action":"rewrite","outcome":"OpenAI is a FOR-profit company."}'
REWRITE_ANSWER = "---\n\nOpenAI is a FOR-profit company."

WEATHER_PROMPT = "Can you tell me what the temperature will be in Dallas, in Fahrenheit?"
WEATHER_ARGUMENTS = {"city": "Dallas", "state": "TX", "unit": "fahrenheit"}


def rewrite_call_messages(
    system_prompt: str | None, call_id: str = REWRITE_CALL_ID
) -> list[Message]:
    """Returns the request to shorten an article, the ``rewrite`` call and its result."""
    return [
        *chat(system_prompt, REWRITE_PROMPT),
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "id": call_id,
                    "type": "function",
                    "function": {
                        "name": "rewrite",
                        "arguments": '{"text": "' + REWRITE_TEXT + '"}',
                    },
                }
            ],
        },
        {
            "role": "tool",
            "content": REWRITE_RESULT,
            "tool_call_id": call_id,
            "name": "rewrite",
        },
    ]


def rewrite_history(system_prompt: str | None, call_id: str = REWRITE_CALL_ID) -> list[Message]:
    """Returns the finished rewrite round trip with which the cards' tool examples begin."""
    return [
        *rewrite_call_messages(system_prompt, call_id),
        {"role": "assistant", "content": REWRITE_ANSWER},
    ]


def weather_messages(system_prompt: str | None, call_id: str = REWRITE_CALL_ID) -> list[Message]:
    """Returns the 2501 card's weather question after a rewrite round trip (with
    ``WEATHER_TOOLS``)."""
    return [*rewrite_history(system_prompt, call_id), {"role": "user", "content": WEATHER_PROMPT}]


# --- 3.2: vision and function calling, "easy" ---------------------------------------------------

BATTLE_PROMPT = (
    "What action do you think I should take in this situation? List all the possible actions and "
    "explain why you think they are good or bad."
)
# The card's answer, shortened.
BATTLE_ANSWER = (
    "In this situation, you are playing a Pokémon game where your Pikachu (Level 42) is facing a "
    "wild Pidgey (Level 17). Given the significant level advantage, the best action is likely to "
    "**FIGHT**."
)

BATTLE_IMAGE_URL = (
    "https://static.wikia.nocookie.net/essentialsdocs/images/7/70/Battle.png/revision/latest"
    "?cb=20220523172438"
)
MAP_IMAGE_URL = (
    "https://huggingface.co/datasets/patrickvonplaten/random_img/resolve/main/europe.png"
)
EQUATIONS_IMAGE_URL = "https://math-coaching.com/img/fiche/46/expressions-mathematiques.jpg"

MAP_PROMPT = "Can you tell me what is the biggest country depicted on the map?"
MAP_ANSWER = "The biggest country depicted on the map is Russia."
POPULATION_PROMPT = "What is the population of that country in millions?"
POPULATION_ARGUMENTS = {"country": "Russia", "unit": "millions"}


def map_messages(
    system_prompt: str | None, image_url: str = MAP_IMAGE_URL, call_id: str = REWRITE_CALL_ID
) -> list[Message]:
    """Returns the 3.2 card's easy example, turn 1: a question about a map (with
    ``POPULATION_TOOLS``)."""
    return [*rewrite_history(system_prompt, call_id), image_message(MAP_PROMPT, image_url)]


def population_messages(
    system_prompt: str | None, image_url: str = MAP_IMAGE_URL, call_id: str = REWRITE_CALL_ID
) -> list[Message]:
    """Returns the 3.2 card's easy example, turn 2: the population of the country found in
    turn 1."""
    return [
        *map_messages(system_prompt, image_url, call_id),
        {"role": "assistant", "content": MAP_ANSWER},
        {"role": "user", "content": POPULATION_PROMPT},
    ]


def population_answer(millions: str) -> str:
    """Returns the tiny model's answer to the population call's result, e.g. ``"143"``."""
    return f"Russia has {millions} million people."


# --- 3.2: function calling, "complex" -----------------------------------------------------------

EQUATIONS_PROMPT = (
    "Can you calculate the results for all the equations displayed in the image? Only compute "
    "the ones that involve numbers."
)
EQUATIONS_ARGUMENTS = ({"expression": "6 + 2 * 3"}, {"expression": "19 - (8 + 2) + 1"})
EQUATIONS_RESULTS = ("12", "10")
EQUATIONS_ANSWER = (
    "Here are the results for the equations that involve numbers:\n"
    "1. \\( 6 + 2 \\times 3 = 12 \\)\n"
    "3. \\( 19 - (8 + 2) + 1 = 10 \\)\n"
    "For the other equations, you need to substitute the variables with specific values to "
    "compute the results."
)


def equations_messages(
    system_prompt: str | None, image_url: str = EQUATIONS_IMAGE_URL
) -> list[Message]:
    """Returns the 3.2 card's complex example, turn 1: equations in an image (with
    ``CALCULATOR_TOOLS``)."""
    return [*system_messages(system_prompt), image_message(EQUATIONS_PROMPT, image_url)]


def tool_results(calls: Sequence[tuple[str, str]], results: Sequence[str]) -> list[Message]:
    """Returns tool messages for ``(id, name)`` pairs, in their order."""
    return [
        {"role": "tool", "tool_call_id": call_id, "name": name, "content": result}
        for (call_id, name), result in zip(calls, results, strict=True)
    ]


# --- 3.2: instruction following; Magistral -------------------------------------------------------

ALPHABET_PROMPT = (
    "Write me a sentence where every word starts with the next letter in the alphabet - start "
    "with 'a' and end with 'z'."
)
ALPHABET_ANSWER = (
    "Always brave cats dance elegantly, fluffy giraffes happily ignore jungle kites, lovingly "
    "munching nuts, observing playful quails racing swiftly, tiny unicorns vaulting while "
    "xylophones yodel zealously."
)

MAGISTRAL_SYSTEM_PROMPT = (
    "A user will ask you to solve a task. You should first draft your thinking process (inner "
    "monologue) until you have derived the final answer. Afterwards, write a self-contained "
    "summary of your thoughts (i.e. your summary should be succinct but contain all the critical "
    "steps you needed to reach the conclusion). You should use Markdown to format your response. "
    "Write both your thoughts and summary in the same language as the task posed by the user. "
    "NEVER use \\boxed{} in your response.\n"
    "Your thinking process must follow the template below:\n"
    "<think>\n"
    "Your thoughts or/and draft, like working through an exercise on scratch paper. Be as casual "
    "and as long as you want until you are confident to generate a correct answer.\n"
    "</think>\n"
    "Here, provide a concise summary that reflects your reasoning and presents a clear final "
    "answer to the user. Don't mention that this is a summary.\n"
    "Problem:\n"
)
SENTENCES_QUERY = (
    "Write 4 sentences, each with at least 8 words. Now make absolutely sure that every sentence "
    "has exactly one word less than the previous sentence."
)
REVOLUTION_QUERY = (
    "Exactly how many days ago did the French Revolution start? Today is June 4th, 2025."
)
NUMBERS_QUERY = (
    "Think about 5 random numbers. Verify if you can combine them with addition, multiplication, "
    "subtraction or division to 133"
)
SHIRTS_QUERY = (
    "If it takes 30 minutes to dry 12 T-shirts in the sun, how long does it take to dry 33 "
    "T-shirts?"
)
MAGISTRAL_QUERIES = (SENTENCES_QUERY, REVOLUTION_QUERY, NUMBERS_QUERY, SHIRTS_QUERY)
