#!/usr/bin/env python3
"""Speculation by prompt lookup, on beside off: two workers with the same file and threads, rounds interleaved, medians.

  bench/lookup.py BUILD_FOLDER MODEL.gguf [--rounds N] [--tokens N] [--only copy|free|mixed]

Rows: a copy-heavy prompt ("rewrite this text with one change") at one stream, greedy; free text of prompts nobody has sent,
temperature 0.7, at 1, 4 and 8 streams. Rates are decoded tokens a second, first to last token of each stream, summed over
the streams. The ratio is on / off; the spread is min..max of rounds. Off and on take the same prompts and seeds."""
import argparse
import http.client
import json
import os
import random
import statistics
import threading
import time

from worker import Server

TEXT = ("The old lighthouse stood on the northern cliff for two hundred years. Every evening the keeper climbed the narrow "
        "stairs, cleaned the glass and lit the lamp. Ships from distant harbours steered by its beam, and the fishermen "
        "of the village set their clocks by it. When the railway came, fewer ships passed, and the council decided to "
        "close the tower. The keeper packed his books, locked the heavy door and walked down to the station. That night, "
        "for the first time, the cliff stayed dark, and nobody in the village slept well.")
SUBJECTS = ("a winter journey", "the history of glass", "how bread is made", "a lost letter", "training for a race",
            "the moons of Jupiter", "a garden in the city", "learning the violin", "an honest merchant", "the first map",
            "a storm at sea", "why leaves turn red", "a quarrel between brothers", "the price of salt", "a night train",
            "building a bridge", "the oldest tree", "a chess game", "the invention of paper", "a small island")


def copy_prompt(salt):
    return ("<|im_start|>user\nRewrite this text. Replace the word lighthouse by tower and change nothing else.\n\n"
            f"{TEXT}<|im_end|>\n<|im_start|>assistant\n{TEXT[:60 + salt % 20]}")


def free_prompt(rng):
    return (f"<|im_start|>user\nWrite an essay about {rng.choice(SUBJECTS)}, number {rng.randrange(10 ** 6)}.<|im_end|>\n"
            "<|im_start|>assistant\n")


def stream(server, prompt, tokens, temperature, seed, results):
    body = {"model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": temperature, "seed": seed, "stream": True,
            "ignore_eos": True}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    reply = connection.getresponse()
    if reply.status != 200:
        raise SystemExit(reply.read().decode())
    times = []
    for line in reply:
        if line.startswith(b"data: {") and b'"choices":[]' not in line and b'"text":""' not in line:
            times.append(time.monotonic())
    connection.close()
    results.append((len(times) - 1) / (times[-1] - times[0]))


def rate(server, prompts, tokens, temperature, seed):
    results = []
    threads = [threading.Thread(target=stream, args=(server, prompt, tokens, temperature, seed + i, results))
               for i, prompt in enumerate(prompts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(results)


def metric(server, name):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(f"inferd_worker_{name} "))


def drafts(server):
    return [metric(server, name) for name in ("draft_tokens_total", "draft_tokens_accepted_total", "steps_total",
                                              "generated_tokens_total")]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("model")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    command = [os.path.join(args.build, "inferd"), "worker", "--model", args.model, "--listen", "127.0.0.1:{port}",
               "--alias", "m", "--threads", "2", "--context-size", "8192"]
    rows = [("copy, 1 stream, greedy", 1, True, 0), ("free text, 1 stream", 1, False, 0.7),
            ("free text, 4 streams", 4, False, 0.7), ("free text, 8 streams", 8, False, 0.7)]
    rows = [row for row in rows if row[0].startswith(args.only)]
    print(f"{os.path.basename(args.model)}: medians of {args.rounds} rounds; columns: on, off, ratio")
    with Server(command + ["--lookup", "auto"]) as on, Server(command + ["--lookup", "off"]) as off:
        for server in (on, off):
            server.wait()
            rate(server, ["warm up"], 16, 0, 0)
        for name, streams, copies, temperature in rows:
            rng, pairs, before = random.Random(name), [], drafts(on)
            for number in range(args.rounds):
                prompts = [copy_prompt(number) if copies else free_prompt(rng) for _ in range(streams)]
                order = (on, off) if number % 2 == 0 else (off, on)
                got = {server: rate(server, prompts, args.tokens, temperature, number * 100) for server in order}
                pairs.append((got[on], got[off]))
            drafted, accepted, steps, generated = (b - a for a, b in zip(before, drafts(on)))
            ratios = [a / b for a, b in pairs]
            print(f"{name:26} {statistics.median(a for a, _ in pairs):8.1f} {statistics.median(b for _, b in pairs):8.1f} t/s  "
                  f"ratio {statistics.median(ratios):5.2f}  ({min(ratios):.2f}..{max(ratios):.2f})  "
                  f"guessed {drafted:.0f}, right {accepted:.0f}, steps {steps:.0f} for {generated:.0f} tokens", flush=True)


if __name__ == "__main__":
    main()
