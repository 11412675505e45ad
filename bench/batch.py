#!/usr/bin/env python3
"""Short chats as one batch: items and tokens a second, from the batch's creation to its end, model loaded before.

  bench/batch.py BUILD_FOLDER MODEL.gguf [--items N] [--tokens N]

Compare the tokens with what `bench_decode MODEL.gguf` says of its largest number of streams."""
import argparse
import json
import os
import shutil
import tempfile
import time
import urllib.request

from worker import Server, prompt_of

BOUNDARY = "batch-bench"


def call(server, path, body=None, content_type="application/json"):
    request = urllib.request.Request(f"http://127.0.0.1:{server.port}{path}", body, {"Content-Type": content_type})
    with urllib.request.urlopen(request) as reply:
        return reply.read()


def post(server, path, value):
    return json.loads(call(server, path, json.dumps(value).encode()))


def chat(tokens):
    return {"model": "m", "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
            "messages": [{"role": "user", "content": prompt_of(12)}]}


def upload(server, items, tokens):
    lines = "\n".join(json.dumps({"custom_id": str(i), "method": "POST", "url": "/v1/chat/completions", "body": chat(tokens)})
                      for i in range(items))
    form = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{BOUNDARY}\r\n'
            f'Content-Disposition: form-data; name="file"; filename="b"\r\n\r\n{lines}\r\n--{BOUNDARY}--\r\n').encode()
    return json.loads(call(server, "/v1/files", form, "multipart/form-data; boundary=" + BOUNDARY))["id"]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--items", type=int, default=2000)
    parser.add_argument("--tokens", type=int, default=32)
    args = parser.parse_args()
    state = tempfile.mkdtemp(prefix="bench-", dir="/tmp")
    command = [os.path.join(args.build, "inferd"), "serve", "--port", "{port}", "--state-dir", state, "--models-dir", state,
               "--model", "m=" + args.model]
    with Server(command, dict(os.environ, HOME=state)) as server:
        server.wait()
        post(server, "/v1/chat/completions", chat(8))
        file = upload(server, args.items, args.tokens)
        began = time.monotonic()
        batch = post(server, "/v1/batches", {"input_file_id": file, "endpoint": "/v1/chat/completions",
                                             "completion_window": "24h"})
        while batch["status"] in ("validating", "in_progress", "finalizing"):
            time.sleep(0.05)
            batch = json.loads(call(server, "/v1/batches/" + batch["id"]))
        seconds = time.monotonic() - began
        lines = call(server, f"/v1/files/{batch['output_file_id']}/content").splitlines()
        tokens = sum(json.loads(line)["response"]["body"]["usage"]["completion_tokens"] for line in lines)
        print(f"{os.path.basename(args.model)}: {batch['status']}, {len(lines)} of {args.items} items in {seconds:.1f} s: "
              f"{len(lines) / seconds:.1f} items/s, {tokens / seconds:.1f} tokens/s")
    shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
