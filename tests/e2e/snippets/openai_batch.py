"""Has a file of requests answered as a batch, with OpenAI's client."""

import json
import time

from openai import OpenAI

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
lines = [
    {
        "custom_id": country,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "tiny",
            "messages": [{"role": "user", "content": f"Give me the capital of {country} as JSON."}],
            "temperature": 0.15,
        },
    }
    for country in ("France", "Italy")
]
content = "\n".join(map(json.dumps, lines)).encode()
file = client.files.create(file=("requests.jsonl", content), purpose="batch")
batch = client.batches.create(
    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
)
while batch.status not in ("completed", "failed", "expired", "cancelled"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
for answer in client.files.content(batch.output_file_id or "").text.splitlines():
    body = json.loads(answer)["response"]["body"]
    print(body["choices"][0]["message"]["content"])
