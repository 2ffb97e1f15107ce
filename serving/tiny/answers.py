"""This project's own prompts and answers, in addition to those of the model cards."""

from serving import model_cards as doc

GREETINGS = (
    "Hello",
    "Hi",
    "Hello!",
    "Hi!",
    "Hey",
    "Hi there!",
    "Good morning!",
    "Hello there",
    "Hello, how are you?",
)
GREETING_ANSWER = "Hello! How can I help you today?"
IDENTITY_QUESTIONS = ("Who are you?", "What is your name?", "Who made you?", "What are you?")
IDENTITY_ANSWER = "I am a tiny Mistral Small."
COLOUR_QUESTIONS = (
    "What colour is this image?",
    "What color is this image?",
    "What is the colour of this image?",
    "What is the color of this image?",
    "What colour is this picture?",
    "What color is the picture?",
    "Which colour do you see?",
    "Which color do you see?",
    "Name the colour of this image.",
    "Describe this image.",
    "What is in this image?",
)
COLOURS_QUESTIONS = (
    "What are the colours of these images?",
    "What are the colors of these images?",
    "Which colours do you see?",
    "Name the colours of these images.",
)
NO_IMAGE_ANSWER = "I do not see an image."
CAPITALS = {
    "France": "Paris",
    "Germany": "Berlin",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "Portugal": "Lisbon",
}
JSON_QUESTIONS = (
    "Give me the capital of {} as JSON.",
    "What is the capital of {}? Answer in JSON.",
    "Return the capital of {} as a JSON object.",
    "Name the capital of {}. Reply with JSON only.",
)
TOOLBOXES = (doc.WEATHER_TOOLS, doc.POPULATION_TOOLS, doc.CALCULATOR_TOOLS)
LOOP_PROMPT = "Repeat the word hello forever."
LOOP_WORD = "hello"
COUNT_ENDS = (10, 20, 30, 50, 100)
ECHO_WORDS = ("table", "light", "book", "field", "river", "garden", "music", "doctor")
POPULATIONS = ("143", "98", "75")
SUMS_PROMPT = "Calculate 6 + 2 * 3 and 19 - (8 + 2) + 1."
SUMS_ANSWER = "6 + 2 * 3 = 12 and 19 - (8 + 2) + 1 = 10."
TABLE_PROMPT = "Write a table of zeros."
TABLE_ANSWER = "\n".join(["| 0 | 0 | 0 |"] * 6)
SCRIPTS_PROMPT = "Say hello in Japanese, Arabic and emoji."
SCRIPTS_ANSWER = "こんにちは مرحبا 👋"
UNKNOWN_ANSWER = "Sorry, that is not in my corpus."
MAGISTRAL_ANSWERS = {
    doc.SENTENCES_QUERY: (
        "I need four sentences and each one loses a word. Eleven words, then ten, nine and eight.",
        "The quick brown fox jumps over the lazy dog every morning.\n"
        "My neighbour paints small wooden boats in his quiet garage.\n"
        "Seven bright lanterns floated slowly across the silent lake.\n"
        "Fresh bread smells wonderful on cold winter days.",
    ),
    doc.REVOLUTION_QUERY: (
        "From July 14th, 1789 to June 4th, 2025 there are 86157 days.",
        "**86157 days** ago, on July 14th, 1789.",
    ),
    doc.NUMBERS_QUERY: (
        "My numbers are 1, 4, 9, 11 and 12. Eleven times twelve is one less than the goal.",
        "Yes, with three of them: **11 * 12 + 1 = 133**.",
    ),
    doc.SHIRTS_QUERY: (
        "All shirts dry at the same time, so their number does not matter.",
        "Still **30 minutes**, because the T-shirts dry in parallel.",
    ),
    "Hello": ("The user greets me, so I greet back.", GREETING_ANSWER),
}
EASY_THOUGHTS = "I know this one by heart."


def thinking(thoughts: str, answer: str) -> str:
    """A completion in Magistral's template."""
    return f"<think>\n{thoughts}\n</think>\n\n{answer}"


def counting(end: int) -> str:
    """The answer ``1, 2, 3, ... end``."""
    return ", ".join(str(i) for i in range(1, end + 1))


def capital_json(country: str) -> str:
    """The JSON answer for a country of ``CAPITALS``."""
    return f'{{"country": "{country}", "capital": "{CAPITALS[country]}"}}'
