"""Streams an answer with LangChain: `pip install langchain-openai`."""

from langchain_openai import ChatOpenAI
from pydantic import SecretStr

model = ChatOpenAI(
    model="tiny",
    base_url="http://127.0.0.1:8000/v1",
    api_key=SecretStr("none"),
    temperature=0.15,
)
for chunk in model.stream("Give me the capital of France as JSON."):
    print(chunk.content, end="", flush=True)
print()
