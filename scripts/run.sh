#!/usr/bin/env bash
# What `make run` does once everything is built: fetch a small chat model, start the server, ask it one question with
# curl, say how to go on, and stay in the foreground until Ctrl-C.
set -euo pipefail
cd "$(dirname "$0")/.."

models=$(scripts/models.sh --demo)
model=SmolLM2-135M-Instruct.Q4_1
port=${PORT:-8080}
build=${BUILD:-build}
url=http://127.0.0.1:$port

$build/inferd serve --port "$port" --models-dir "$models" --log-level warn &
server=$!
trap 'kill -INT $server 2>/dev/null; wait $server 2>/dev/null; exit 0' INT TERM
for _ in $(seq 200); do
    curl -fs "$url/health/ready" >/dev/null 2>&1 && break
    kill -0 $server 2>/dev/null || { echo "The server did not start; its reason stands above." >&2; exit 1; }
    read -rt 0.05 <> <(:) || true
done

question='What is the capital of France? Answer in one sentence.'
printf '\n\033[1m%s\033[0m\n' "$question"
INFERD_URL=$url $build/inferd run "$model" --temperature 0 --max-tokens 64 --verbose "$question"

cat <<TEXT

The server runs at $url. Go on with

  curl $url/v1/chat/completions -H 'Content-Type: application/json' \\
    -d '{"model": "$model", "messages": [{"role": "user", "content": "Hello!"}], "stream": true}'

  $build/inferd chat $model

  from openai import OpenAI                       # pip install openai
  client = OpenAI(base_url="$url/v1", api_key="not-needed")

Put other GGUF files into a folder and start with: $build/inferd serve --models-dir FOLDER
Ctrl-C ends the server.

TEXT
wait $server
