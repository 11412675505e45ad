#!/usr/bin/env python3
"""`make bench-engine`: the worker beside llama.cpp's own programs where it hurts: many streams, one prefix for many, long
prompts beside running chats, two models in memory for one, two users. Same file, same cores, same run; rounds interleaved,
medians with their spread. Nothing else should use the machine.

  bench/engine.py BUILD_FOLDER LLAMA_FOLDER MODEL.gguf [--rounds N] [decode burst warm gap swap fair ...]"""
import argparse
import itertools
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time

from worker import Server, WORDS, llama_bench

LARGE_PAGES = dict(os.environ, GLIBC_TUNABLES="glibc.malloc.hugetlb=1") # as the gateway starts a worker
TOKENS = 64
DECODED = 96 # a stream, where only decoding is measured


def spread(values, digits=2):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


class Peers:
    def __init__(self, build, llama, model):
        self.build, self.model = build, model
        self.bin = os.path.join(llama, "build", "bin")
        self.inferd = os.path.join(build, "inferd")

    def worker(self, *more):
        return Server([self.inferd, "worker", "--model", self.model, "--listen", "127.0.0.1:{port}", "--alias", "m", "--threads", "2",
                       *more], LARGE_PAGES)

    def llama(self, *more):
        return Server([os.path.join(self.bin, "llama-server"), "-m", self.model, "--host", "127.0.0.1", "--port", "{port}", "-t", "2",
                       *more])


def words(count, seed):
    return " ".join(random.Random(seed).choices(WORDS, k=count))


def stream(server, prompt, tokens=TOKENS, headers=None):
    """Arrival times of the tokens, since the request; the last element is the usage object, where there is one."""
    import http.client
    body = {"model": "m", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "stream": True, "ignore_eos": True,
            "stream_options": {"include_usage": True}}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=900)
    begin = time.monotonic()
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json", **(headers or {})})
    reply = connection.getresponse()
    if reply.status != 200:
        raise SystemExit(reply.read().decode())
    times, usage = [], {}
    for line in reply:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[6:])
        if event.get("usage"):
            usage = event["usage"]
        if event.get("choices") and event["choices"][0].get("text"):
            times.append(time.monotonic() - begin)
    connection.close()
    return times, usage


def together(jobs):
    """Runs the functions at once; their results in order, and how long all took."""
    results = [None] * len(jobs)

    def run(i):
        results[i] = jobs[i]()
    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(jobs))]
    begin = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results, time.monotonic() - begin


# ---- decode rates beside the bare engine ----

def batched_bench(peers, prompt, shared, flash, cache):
    out = subprocess.run([os.path.join(peers.bin, "llama-batched-bench"), "-m", peers.model, "-c", "16384", "-npp", str(prompt), "-ntg",
                          str(DECODED), "-npl", "4,8,16", "-fa", flash, cache, "-t", "2", "--output-format", "jsonl",
                          *(["-pps"] if shared else [])], capture_output=True, text=True, check=True).stdout
    return {row["pl"]: row["speed_tg"] for row in map(json.loads, filter(lambda line: line.startswith("{"), out.splitlines()))}


def our_decode(peers, flash):
    out = subprocess.run([os.path.join(peers.build, "bench", "bench_decode"), peers.model, str(DECODED), "1", flash],
                         capture_output=True, text=True, check=True, env=LARGE_PAGES).stdout
    rates = {(int(n), shared): float(rate) for n, own, deep in
             re.findall(r"(\d+) streams, depth 64: ([\d.]+) t/s; depth 512 shared: ([\d.]+)", out)
             for shared, rate in ((False, own), (True, deep))}
    one = re.search(r"depth 0: ([\d.]+) t/s; depth 512: ([\d.]+)", out)
    return rates, [float(one.group(1)), float(one.group(2))]


SETTINGS = list(itertools.product(("on", "off"), ("-kvu", "-no-kvu")))


def decode(peers, rounds):
    """The peer in the setting that is best for a shape by its median of all rounds; ours as it chooses (auto)."""
    ours, theirs, single = {}, {}, ([], [])
    for _ in range(rounds):
        rates, one = our_decode(peers, "auto")
        for key, rate in rates.items():
            ours.setdefault(key, []).append(rate)
        for depth, rate, ratios in zip((0, 512), one, single):
            ratios.append(rate / llama_bench(os.path.join(peers.bin, "llama-bench"), peers.model, depth))
        for (shared, prompt), setting in itertools.product(((False, 64), (True, 512)), SETTINGS):
            for streams, rate in batched_bench(peers, prompt, shared, *setting).items():
                theirs.setdefault((streams, shared), {}).setdefault(setting, []).append(rate)
    for depth, ratios in zip((0, 512), single):
        print(f"decode, 1 stream, depth {depth}: x {spread(ratios)} of llama-bench (goal 0.98)")
    for (streams, shared), settings in sorted(theirs.items(), key=lambda item: (item[0][1], item[0][0])):
        setting, best = max(settings.items(), key=lambda item: statistics.median(item[1]))
        ratios = [a / b for a, b in zip(ours[streams, shared], best)]
        print(f"decode, {streams} streams, {'512 shared' if shared else '64 own'}: x {spread(ratios)} of llama-batched-bench with "
              f"-fa {setting[0]} {setting[1]}, its best (goal 0.95); {statistics.median(ours[streams, shared]):.0f} and "
              f"{statistics.median(best):.0f} t/s")


# ---- one prefix for eight ----

def eight(server, prefix):
    jobs = [lambda i=i: stream(server, f"{prefix} Number {i} asks:") for i in range(8)]
    results, seconds = together(jobs)
    computed = sum(usage["prompt_tokens"] - (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) for _, usage in results)
    return statistics.median(times[0] for times, _ in results), seconds, computed


def burst(peers, rounds):
    """Eight at once with a cold prefix; then eight more with one that a single request has warmed."""
    setups = {"ours": lambda: peers.worker(),
              "8 slots": lambda: peers.llama("-np", "8", "-c", "16384"),
              "1 slot": lambda: peers.llama("-np", "1", "-c", "4096"),
              "8 slots, sps 0": lambda: peers.llama("-np", "8", "-c", "16384", "-sps", "0")}
    seen = {name: {"cold": [], "warm": [], "alone": []} for name in setups}
    for number in range(rounds):
        for name, make in setups.items():
            with make() as server:
                server.wait()
                stream(server, "warm up", 8)
                if name != "8 slots, sps 0":
                    seen[name]["cold"].append(eight(server, words(480, number * 10 + 1)))
                if name != "1 slot":
                    prefix = words(480, number * 10 + 2)
                    stream(server, prefix + " First.", 8)
                    seen[name]["warm"].append(eight(server, prefix))
                prefix = words(480, number * 10 + 3)
                stream(server, prefix + " First.", 8)
                seen[name]["alone"].append((stream(server, prefix + " Then a second.", 8)[0][0], 0, 0))

    def ratio(kind, other, column):
        return spread([a[column] / b[column] for a, b in zip(seen["ours"][kind], seen[other][kind])])
    print(f"8 with a cold prefix, all done: x {ratio('cold', '8 slots', 1)} of 8 slots (goal 0.35), "
          f"x {ratio('cold', '1 slot', 1)} of 1 slot (goal 0.75)")
    print(f"8 with a cold prefix, first token: x {ratio('cold', '8 slots', 0)} of 8 slots (goal 0.2), "
          f"x {ratio('cold', '1 slot', 0)} of 1 slot (goal 0.5)")
    print(f"8 with a warm prefix, first token: x {ratio('warm', '8 slots, sps 0', 0)} of 8 slots with -sps 0 (goal 0.3)")
    print(f"a lone follow-up, first token: x {ratio('alone', '1 slot', 0)} of 1 slot (goal 1)")
    print(f"prompt tokens computed, ours: cold {seen['ours']['cold'][-1][2]}, warm {seen['ours']['warm'][-1][2]}; "
          f"8 slots: cold {seen['8 slots']['cold'][-1][2]}, warm {seen['8 slots']['warm'][-1][2]}")


# ---- a long prompt beside four streams ----

def gaps_of(results):
    return sorted(b - a for times, _ in results for a, b in zip(times, times[1:]))


def p99(values):
    return values[min(len(values) - 1, int(len(values) * 0.99))]


def four_streams(server, seed, tokens, then=None):
    jobs = [lambda i=i: stream(server, words(12, seed + i), tokens) for i in range(4)]
    if then:
        def later():
            time.sleep(1) # the streams are under way
            return then()
        jobs.append(later)
    results, _ = together(jobs)
    return gaps_of(results[:4]), results[4] if then else None


def gap(peers, rounds):
    makes = {"ours": lambda: peers.worker("--context-size", "8192"),
             "ours, without guesses": lambda: peers.worker("--context-size", "8192", "--lookup", "off"),
             "llama-server": lambda: peers.llama("-np", "5", "-c", "20480")}
    seen = {name: ([], [], [], []) for name in makes}
    for number in range(rounds):
        for name, make in makes.items():
            with make() as server:
                server.wait()
                stream(server, "warm up", 8)
                quiet, _ = four_streams(server, number * 100, 200)
                busy, long = four_streams(server, number * 100 + 50, 600, lambda: stream(server, words(3600, number), 4))
                seen[name][0].append(p99(quiet) * 1e3)
                seen[name][1].append(p99(busy) * 1e3)
                seen[name][2].append(long[0][0])
                seen[name][3].append(busy[-1])
    for name, (quiet, busy, first, worst) in seen.items():
        print(f"4 streams beside a prompt of 4 000 tokens, {name}: p99 gap {spread(busy, 0)} ms, undisturbed {spread(quiet, 0)} ms, "
              f"x {spread([a / b for a, b in zip(busy, quiet)])}{' (goal 2)' if name.startswith('ours') else ''}; "
              f"longest gap {spread(worst, 1)} s, the prompt's first token {spread(first, 1)} s")


# ---- A, B, A with memory for one ----

def swap(peers, rounds):
    state = tempfile.mkdtemp(prefix="bench-", dir="/tmp")
    for name in ("a", "b"):
        shutil.copy(peers.model, os.path.join(state, name + ".gguf"))
    warm, back, cold = [], [], []
    for number in range(rounds):
        history = words(1850, 7000 + number)
        with Server([peers.inferd, "serve", "--port", "{port}", "--state-dir", state, "--models-dir", state, "--set",
                     "cache.max_cached_models=1", "--log-level", "warn"], dict(os.environ, HOME=state, INFERNO_LOCAL__ENABLED="false")) as server:
            server.wait()

            def ask(model, prompt):
                return server.stream(prompt, 4, model=model)[0]
            cold.append(ask("a", history))
            warm.append(ask("a", history + " And then?"))
            ask("b", "Something else.")
            back.append(ask("a", history + " And after that?"))
            print(f"  first {cold[-1] * 1e3:.0f} ms, warm {warm[-1] * 1e3:.0f} ms, back {back[-1] * 1e3:.0f} ms", flush=True)
    shutil.rmtree(state)
    print(f"A, B, A: first token of the second A x {spread([a / b for a, b in zip(back, warm)])} of a warm one (goal 2); "
          f"{statistics.median(back) * 1e3:.0f} ms, cold {statistics.median(cold) * 1e3:.0f} ms")


# ---- two users ----

def fair(peers, rounds):
    for size in (20, 400):
        idle, busy = [], []
        for number in range(rounds):
            with peers.worker() as server:
                server.wait()
                stream(server, "warm up", 8)
                own = {"X-Inferd-Client": "0b"}
                idle.append(statistics.median(stream(server, words(size, number * 50 + i), 8, own)[0][0] for i in range(3)))

                def fifty():
                    return together([lambda i=i: stream(server, words(40, 900 + number * 50 + i), 48, {"X-Inferd-Client": "0a"})
                                     for i in range(50)])

                def one():
                    time.sleep(2)
                    return stream(server, words(size, 5000 + number), 8, own)[0][0]
                results, _ = together([fifty, one])
                busy.append(results[1])
        print(f"one request of {size} words beside another key's 50: first token x {spread([a / b for a, b in zip(busy, idle)])} of the same "
              f"on an idle server (goal 1.5); {statistics.median(busy) * 1e3:.0f} and {statistics.median(idle) * 1e3:.0f} ms")


def main():
    parts = {"decode": decode, "burst": burst, "gap": gap, "swap": swap, "fair": fair}
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("llama")
    parser.add_argument("model")
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_intermixed_args()
    peers = Peers(args.build, args.llama, args.model)
    print(f"== {os.path.basename(args.model)}, {args.rounds} rounds")
    for name in args.parts or parts:
        parts[name](peers, args.rounds)


if __name__ == "__main__":
    main()
