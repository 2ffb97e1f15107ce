"""Has the model call a function, and answers from what the function returned."""

import json

from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam


def rewrite(text: str) -> str:
    return json.dumps({"action": "rewrite", "outcome": "OpenAI is a FOR-profit company."})


TOOLS: list[ChatCompletionToolParam] = [
    {
        "type": "function",
        "function": {
            "name": "rewrite",
            "description": "Rewrite a given text for improved clarity",
            "parameters": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "description": "The input text to rewrite"}
                },
            },
        },
    }
]
PROMPT = (
    "Could you please make the below article more concise?\n\nOpenAI is an artificial "
    "intelligence research laboratory consisting of the non-profit OpenAI Incorporated and its "
    "for-profit subsidiary corporation OpenAI Limited Partnership."
)

client = OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none")
messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
while True:
    completion = client.chat.completions.create(
        model="tiny", messages=messages, tools=TOOLS, temperature=0
    )
    message = completion.choices[0].message
    if not message.tool_calls:
        print(message.content)
        break
    messages.append(message.to_dict())  # type: ignore[arg-type]
    for call in message.tool_calls:
        if call.type == "function":
            print(f"calling {call.function.name}")
            result = rewrite(**json.loads(call.function.arguments))
            messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
