"""Answers in the languages of the model cards, and other text of several tokens a character.

The embedded models speak English alone, so each answer is forced to be one sentence. Most
characters are then several tokens, as their vocabulary has next to nothing but English words.
"""

# ruff: noqa: RUF001  # letters that resemble others are what this is about

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx

SENTENCES = {
    "Arabic": "مرحبًا بالعالم، كَيْفَ حالُكَ اليومَ؟ ١٢٣",
    "Bengali": "আমি বাংলায় গান গাই, আজ ক্ষুদ্র বৃষ্টি।",
    "Chinese": "你好，世界！今天天氣很好，我们去吃饭吧。",
    "Dutch": "Eén vraag: hoe zit het met de reünie in IJmuiden?",
    "English": "“Well,” she said — it’s naïve, but it works…",
    "French": "Où est passé l'œuf ? Là-bas, près du château, ça coûte 5 €.",
    "German": "Größere Äpfel schmecken süß; „Übung macht den Meister“.",
    "Greek": "Καλημέρα, κόσμε! Ἐν ἀρχῇ ἦν ὁ λόγος·",
    "Hindi": "नमस्ते दुनिया, क्या हाल है? श्री क्षत्रिय ज्ञान।",
    "Indonesian": "Selamat pagi, apa kabar? Anak-anak bermain di taman.",
    "Italian": "Perché no? È così: l'università è più lontana di là.",
    "Japanese": "こんにちは、世界！カタカナと漢字が混ざる、ｶﾅも。",
    "Korean": "안녕하세요, 세계! 오늘 날씨가 참 좋네요. 뷁",
    "Malay": "Selamat petang, apa khabar? Saya suka makan durian.",
    "Nepali": "नमस्कार, तपाईंलाई कस्तो छ? आज मौसम राम्रो छ।",
    "Persian": "سلام دنیا، می\u200cخواهم کتاب\u200cها را بخوانم؛ ۱۲۳",
    "Polish": "Zażółć gęślą jaźń, proszę — „tak”!",
    "Portuguese": "Não há pão à mesa; a avó está lá, amanhã às três.",
    "Romanian": "Să învățăm românește: țară, știință, și încă ș-ț.",
    "Russian": "Привет, мир! Съешь ещё этих мягких французских булок.",
    "Serbian": "Здраво, свете! Љубав, њива, џем; Ljubav, đak, ćuk.",
    "Spanish": "¿Qué tal, señor Núñez? ¡Mañana será otro día!",
    "Swedish": "Räksmörgås på ön, väl? Åsa äter åtta äpplen.",
    "Turkish": "İstanbul'da ılık bir gün; çığ düştü, şöyle ğ.",
    "Ukrainian": "Привіт, світе! Її ґанок — це щось особливе, є ї.",
    "Vietnamese": "Xin chào thế giới! Tôi thích ăn phở và bún chả ở Hà Nội.",
    "right to left with marks": "\u200fשלום\u200e (abc) \u2067مرحبا\u2069 1-2 \ufeff.",
    "combining marks": "e\u0301 a\u030a\u0323 n\u0303 Z\u0351\u036b\u0343\u036a\u0302 é ≠ e\u0301",
    "emoji": "👍🏽 👩\u200d👩\u200d👧\u200d👦 🏳\ufe0f\u200d🌈 🇫🇷 ❤\ufe0f 1\ufe0f\u20e3 🎉🎉",
    "beyond the first plane": "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𠜎𠜱 𓀀 𐍈",
}
"""A sentence in each language that a card lists, and other scripts. Some characters have two forms,
of which the answer must keep its own."""

APIS = ("chat/completions", "completions", "responses", "messages")

_AT_A_TIME = 16
_MAX_TOKENS = 400


async def assert_languages_come_through(url: str, model: str, api: str) -> None:
    """Asserts that answers in each language are whole, streamed or not."""
    at_a_time = asyncio.Semaphore(_AT_A_TIME)
    async with httpx.AsyncClient(base_url=f"{url}/v1", timeout=300) as http:

        async def answered(language: str, streamed: bool) -> None:
            body = _request(api, SENTENCES[language]) | {"model": model, "stream": streamed}
            async with at_a_time:
                pieces = [piece async for piece in _pieces(http, api, body)]
            said = "".join(pieces)
            if api == "messages":  # whose answers can only be forced to be JSON
                said = json.loads(said)
            expected = SENTENCES[language] * (2 if body.get("echo") else 1)
            assert said == expected, (language, streamed)

        await asyncio.gather(
            *(answered(language, streamed) for language in SENTENCES for streamed in (False, True))
        )


def _request(api: str, sentence: str) -> dict[str, Any]:
    """A request that can only be answered with the sentence."""
    body: dict[str, Any] = {"temperature": 0}
    chat = [{"role": "user", "content": sentence}]
    if api == "messages":
        schema = {"enum": [sentence]}
        form = {"format": {"type": "json_schema", "schema": schema}}
        return body | {"messages": chat, "max_tokens": _MAX_TOKENS, "output_config": form}
    body["structured_outputs"] = {"choice": [sentence]}
    if api == "responses":
        return body | {"input": sentence, "max_output_tokens": _MAX_TOKENS}
    body["max_tokens"] = _MAX_TOKENS
    if api == "completions":
        return body | {"prompt": sentence, "echo": True}
    return body | {"messages": chat}


async def _pieces(http: httpx.AsyncClient, api: str, body: dict[str, Any]) -> AsyncIterator[str]:
    """Yields the text of each event of a stream, or of the whole answer. Asserts that the answer
    ended by itself."""
    async with http.stream("POST", api, json=body) as response:
        if not body["stream"]:
            await response.aread()
            assert response.status_code == 200, response.text
            text, end = _whole(api, response.json())
            yield text
        else:
            end = None
            async for line in response.aiter_lines():
                if line.startswith("data: {"):
                    text, end_now = _event(api, json.loads(line.removeprefix("data: ")))
                    end = end_now or end
                    if text:
                        yield text
    assert end in ("stop", "completed", "end_turn"), (end, body)


def _whole(api: str, answer: Any) -> tuple[str, str]:
    if api == "responses":
        return answer["output"][0]["content"][0]["text"], answer["status"]
    if api == "messages":
        return answer["content"][0]["text"], answer["stop_reason"]
    (choice,) = answer["choices"]
    text = choice["text"] if api == "completions" else choice["message"]["content"]
    return text, choice["finish_reason"]


def _event(api: str, event: Any) -> tuple[str, str | None]:
    if api == "responses":
        text = event["delta"] if event["type"] == "response.output_text.delta" else ""
        return text, event["response"]["status"] if event["type"] == "response.completed" else None
    if api == "messages":
        delta = event.get("delta", {})
        return delta.get("text", ""), delta.get("stop_reason")
    text, end = "", None
    for choice in event["choices"]:
        text += choice["text"] if api == "completions" else choice["delta"].get("content") or ""
        end = choice["finish_reason"] or end
    return text, end
