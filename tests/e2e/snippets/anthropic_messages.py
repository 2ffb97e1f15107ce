"""Streams an answer with Anthropic's client."""

from anthropic import Anthropic

client = Anthropic(base_url="http://127.0.0.1:8000", api_key="none")
with client.messages.stream(
    model="tiny",
    max_tokens=1000,
    messages=[{"role": "user", "content": "Give me the capital of France as JSON."}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
