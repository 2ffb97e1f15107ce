"""Streams an answer with OpenAI's client."""

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
stream = client.chat.completions.create(
    model="tiny",
    messages=[{"role": "user", "content": "Give me the capital of France as JSON."}],
    temperature=0.15,
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
