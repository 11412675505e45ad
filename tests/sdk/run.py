#!/usr/bin/env python3
"""Starts the real server with a real model on a free port and runs the vendors' clients against it."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sys"))
from harness import Server  # noqa: E402

MODEL = "SmolLM2-135M-Instruct.Q4_1"


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    with Server(models_dir=os.environ["INFERD_MODELS"]) as server:
        env = dict(os.environ, INFERD_URL=server.url + "/v1", INFERD_MODEL=MODEL)
        return subprocess.run([str(root / "scripts/sdk.sh"), *sys.argv[1:]], env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
