"""What a client of Mistral's 24B models can rely on, as checks against any OpenAI-style server.
`mistral-serve conformance` runs them and prints what passed, what failed and what was skipped, with
reasons.

A check is a function named after what a client sees; its docstring says what it demands, and the
source of the expectation if that is not a model card. Only what a client can cause is checked:
other tests of the project cover deployment and the failure of parts.

Each theme is a file: `basics`, `prompts`, `tools`, `tool_history`, `vision`, `output`, `reasoning`,
`limits`, `errors`, `tokens`, `other_apis`, `streaming`. `cases` has the requests that several
share, `server` sends them, `answer` parses and joins the answers, `runner` runs the checks and
`report` prints the results.
"""
