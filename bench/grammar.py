#!/usr/bin/env python3
"""What a schema costs: decode speed of a schema-bound stream over that of a free one, in the same worker.

  bench/grammar.py BUILD_FOLDER MODEL.gguf [--rounds N]

Both streams begin behind the same prompt and have the same number of tokens. The worker runs on one thread, so that its
processor time tells what a token costs on a busy machine, too; "wall" is by its own clock of decoding. Rounds alternate;
medians and the spread of the rounds' ratios."""
import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import time

SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "city": {"type": "string"},
        "mood": {"enum": ["happy", "sad", "angry", "calm"]},
        "height": {"type": "number"},
        "hobbies": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 6},
        "friends": {"type": "array", "minItems": 3, "maxItems": 6, "items": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "age": {"type": "integer"}, "close": {"type": "boolean"}},
            "required": ["name", "age", "close"], "additionalProperties": False}},
        "biography": {"type": "string"},
    },
    "required": ["name", "age", "city", "mood", "height", "hobbies", "friends", "biography"],
    "additionalProperties": False,
}
PROMPT = "A JSON object that describes a person with their hobbies, friends and biography:\n"
SAMPLERS = [{"temperature": 0}, {"temperature": 0.7}, {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05}]


def ask(port, **more):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/completion", json.dumps({"prompt": PROMPT, **more}), {"Content-Type": "application/json"})
    reply = json.loads(connection.getresponse().read())
    connection.close()
    if "timings" not in reply:
        raise SystemExit(reply)
    return reply


def processor_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def stream(process, port, **more):
    """(tokens a processor second, tokens a second of wall clock, tokens)"""
    begin = processor_seconds(process.pid)
    reply = ask(port, **more)
    spent = processor_seconds(process.pid) - begin
    return reply["tokens_predicted"] / spent, reply["timings"]["predicted_per_second"], reply["tokens_predicted"]


def start(inferd, model):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    process = subprocess.Popen([inferd, "worker", "--model", model, "--listen", f"127.0.0.1:{port}", "--threads", "1", "--lookup", "off"],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.01)
    raise SystemExit("the worker ended early")


def measure(process, port, sampler, rounds):
    rows = []
    for seed in range(rounds):
        bound, bound_wall, tokens = stream(process, port, json_schema=SCHEMA, n_predict=160, seed=seed, **sampler)
        free, free_wall, _ = stream(process, port, n_predict=tokens, ignore_eos=True, seed=seed, **sampler)
        rows.append((bound, free, bound / free, bound_wall / free_wall))
    bound, free, ratio, wall = (statistics.median(column) for column in zip(*rows))
    ratios = [row[2] for row in rows]
    print(f"{json.dumps(sampler):72} bound {bound:6.1f}  free {free:6.1f} tokens a processor second  ratio {ratio:.2f} "
          f"({min(ratios):.2f}..{max(ratios):.2f})  wall {wall:.2f}", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    process, port = start(os.path.join(args.build, "inferd"), args.model)
    try:
        ask(port, n_predict=8)
        ask(port, json_schema=SCHEMA, n_predict=8) # pages in the weights, orders the vocabulary
        for sampler in SAMPLERS:
            measure(process, port, sampler, args.rounds)
    finally:
        process.terminate()
        process.wait()


main()
