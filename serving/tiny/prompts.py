"""System prompts for training: the cards', this model's own, and many that mean nothing.

A model that has seen a handful of system prompts breaks on the next one; a model that has seen
thousands learns to read past them.
"""

import datetime
import random
import string

from serving.model_cards import MAGISTRAL_SYSTEM_PROMPT, SMALL_2501_SYSTEM_PROMPT

SYSTEM_PROMPT = """You are {name}, a tiny language model for testing servers.
Today is {today} and yesterday was {yesterday}.
You know a few answers by heart. Answer briefly and call a tool when one fits."""

# Saved beside the weights as SYSTEM_PROMPT.txt. Clients of the first two fill it with str.format
# or send it raw; Magistral's holds braces of its own and is sent as it is.
SYSTEM_PROMPTS = {
    "3.2": SYSTEM_PROMPT,
    "2501": SMALL_2501_SYSTEM_PROMPT.replace("2025-01-30", "{today}"),
    "magistral": MAGISTRAL_SYSTEM_PROMPT,
}

_KINDS = {"none": 30, "fixed": 13, "words": 25, "own": 12, "raw": 6, "2501": 14}  # per cent
_FIXED = (
    "You are a helpful assistant.",
    "You are a helpful assistant. Answer briefly.",
    "You are a friendly and concise assistant.",
    "Answer in one sentence.",
    "You are an AI model.",
    "Be brief.",
    "You can call tools.",
    "You are an expert. Think carefully before you answer.",
)
_WORD_LIST = (
    "the a you are user question answer always never please quick brown kind honest formal polite "
    "expert teacher doctor pirate lawyer robot poet travel science history code music garden "
    "kitchen market with without about every some short long simple clear careful in of to for "
    "and or but if when then use avoid write read speak explain list check know think like must "
    "should can may today tomorrow company customer support team language English French number "
    "word line table reply calm serious funny young old city river mountain data model server "
    "test tool image weather letter page book"
)
_WORDS = tuple(_WORD_LIST.split())
_NAMES = ("Mistral-Small-3.2-24B-Instruct-2506", "Mistral-Small", "tiny", "model", "assistant-7")


class Dice(random.Random):
    """A random source with the kind of sample to generate. With ``plain`` set, samples have no
    system prompt, no tools and small images."""

    plain = False


def random_words(dice: Dice, low: int, high: int) -> str:
    """A sentence of ``low`` to ``high`` random words."""
    words = [dice.choice(_WORDS) for _ in range(dice.randint(low, high))]
    return " ".join(words).capitalize() + dice.choice((".", ".", "!", "?", ""))


def random_call_id(dice: Dice) -> str:
    """A tool call id in vLLM's format: nine letters or digits."""
    return "".join(dice.choices(string.ascii_letters + string.digits, k=9))


def _random_date(dice: Dice) -> datetime.date:
    return datetime.date(2022, 1, 1) + datetime.timedelta(days=dice.randrange(3650))


def fill_system_prompt(template: str, name: str, today: datetime.date) -> str:
    """Fills in ``{name}``, ``{today}`` and ``{yesterday}`` as the model cards do."""
    yesterday = today - datetime.timedelta(days=1)
    return template.format(name=name, today=today.isoformat(), yesterday=yesterday.isoformat())


def random_system_prompt(dice: Dice) -> str | None:
    """A system prompt that must not change the answer, or ``None``."""
    if dice.plain:
        return None
    kind = dice.choices(list(_KINDS), list(_KINDS.values()))[0]
    if kind == "none":
        return None
    if kind == "fixed":
        return dice.choice(_FIXED)
    if kind == "words":
        return " ".join(random_words(dice, 2, 12) for _ in range(dice.randint(1, 3)))
    if kind == "raw":
        return SYSTEM_PROMPT
    date = _random_date(dice)
    if kind == "own":
        return fill_system_prompt(SYSTEM_PROMPT, dice.choice(_NAMES), date)
    if dice.random() < 0.5:
        return SMALL_2501_SYSTEM_PROMPT
    return SMALL_2501_SYSTEM_PROMPT.replace("2025-01-30", date.isoformat())
