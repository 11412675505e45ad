#!/usr/bin/env bash
# clang's static analyzer over our C, with the flags that the build in build/ uses: prints what it finds and fails when
# that is anything. Arguments limit it to files whose names end so.
set -euo pipefail
cd "$(dirname "$0")/.."
exec python3 - "$@" <<'PY'
import json, pathlib, re, shlex, subprocess, sys
found = False
root = str(pathlib.Path.cwd())
for entry in json.load(open("build/compile_commands.json")):
    file = entry["file"]
    if not file.startswith(root + "/src/") or not file.endswith(".c") or (sys.argv[1:] and not any(file.endswith(a) for a in sys.argv[1:])):
        continue
    flags = [word for word in shlex.split(entry["command"])[1:] if re.match("-(D|I|std=|U)", word)]
    words = shlex.split(entry["command"])
    for n, word in enumerate(words):
        if word in ("-isystem", "-include"):
            flags += [word, words[n + 1]]
    run = subprocess.run(["clang", "--analyze", "-Xclang", "-analyzer-output=text", *flags, file], capture_output=True, text=True,
                         cwd=entry["directory"], check=False)
    for line in run.stderr.splitlines():
        if "warning:" in line or "error:" in line:
            print(line)
            found = True
sys.exit(found)
PY
