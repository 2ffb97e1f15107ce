"""What a client of Mistral's 24B models can rely on, as checks against any OpenAI-style server.

`mistral-serve conformance` runs them and prints what passed, what failed and what was skipped, each
with the reason. A check is a function named after what a client sees; its docstring says more, and
where the expectation comes from if not from the model cards. How a model is deployed, and what
happens when a part of it fails, no client can bring about: other tests of the project hold that.

A theme is a file: `basics`, `prompts`, `tools`, `tool_history`, `vision`, `output`, `reasoning`,
`limits`, `errors`, `tokens`, `other_apis`, `streaming`. `cases` has the requests that several
share, `server` sends them, `answer` reads and joins what comes back, `runner` runs and `report`
prints.
"""
