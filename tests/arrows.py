#!/usr/bin/env python3
"""Includes point one way. Each folder of src/ may include the folders listed for it and itself; nothing else.
Only src/worker/ may include llama.cpp's headers, and nobody includes a .c file. Prints what points the wrong way."""
import pathlib
import re
import sys

MAY_USE = {
    "base": "",
    "loop": "base",
    "http": "base loop",
    "conf": "base",
    "obs": "base loop http",
    "openai": "base",
    "store": "base loop obs",
    "auth": "base loop conf obs store",
    "registry": "base loop conf obs store",
    "instance": "base loop http conf obs store registry",
    "api": "base loop http conf obs openai store auth registry instance",
    "serve": "base loop http conf obs openai store auth registry instance api",
    "worker": "base loop http conf obs openai",
    "cli": "base loop http conf obs openai store auth registry instance serve worker",
    "main": "base cli",
}
LLAMA = re.compile(r"^(llama|ggml|gguf\.h|common\.h|chat\.h|sampling\.h|json-schema|mtmd)")


def layer_of(path):
    return path.split("/")[0] if "/" in path else path.rsplit(".", 1)[0]


def main():
    src = pathlib.Path(__file__).resolve().parent.parent / "src"
    wrong = []
    for file in sorted(src.rglob("*")):
        if file.suffix not in (".c", ".h", ".cpp", ".def"):
            continue
        name = str(file.relative_to(src))
        layer = layer_of(name)
        allowed = set(MAY_USE.get(layer, "").split()) | {layer}
        if layer not in MAY_USE:
            wrong.append(f"{name}: the layer '{layer}' is not in tests/arrows.py")
        for number, line in enumerate(file.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
            if not match:
                continue
            target = match.group(1)
            ours = (src / target).exists()
            if ours and layer_of(target) not in allowed:
                wrong.append(f"{name}:{number}: {layer} must not include {target}")
            if not ours and LLAMA.match(target) and layer != "worker":
                wrong.append(f"{name}:{number}: only worker/ may include llama.cpp's {target}")
            if target.endswith(".c"):
                wrong.append(f"{name}:{number}: includes a .c file")
    print("\n".join(wrong) if wrong else "all includes point one way")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
