# Streams an answer as server-sent events.
curl -N http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \
    -d '{"model": "tiny", "stream": true, "messages": [{"role": "user", "content": "Give me the capital of France as JSON."}]}'
