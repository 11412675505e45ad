#!/usr/bin/env python3
"""Starts the real server with a real model on a free port and runs the vendors' clients against it."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "sys"))
from harness import INFERD, Log, Server, fake_model  # noqa: E402

MODEL = "SmolLM2-135M-Instruct.Q4_1"
LOCAL = {"INFERNO_LOCAL__ENABLED": "true", "INFERNO_LOCAL__PORT": "0"}


def folder_of(models, folder):
    """The models as links, so that a client may delete what is in this folder, and two files for that."""
    for path in pathlib.Path(models).glob("*.gguf"):
        (pathlib.Path(folder) / path.name).symlink_to(path.resolve())
    for name in ("unwanted-python", "unwanted-node"):
        fake_model(folder, name)
    return folder


def main():
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    models = os.environ["INFERD_MODELS"]
    # The native routes (/tokenize) are the worker's own: one beside the server, for the tests that need token ids.
    worker = subprocess.Popen([INFERD, "worker", "--model", f"{models}/{MODEL}.gguf", "--listen", "127.0.0.1:0"], stderr=subprocess.PIPE)
    log = Log(worker.stderr)
    try:
        port = re.search(r"port=(\d+)", log.wait("listening")).group(1)
        log.wait("model loaded")
        with tempfile.TemporaryDirectory() as folder, Server(models_dir=folder_of(models, folder), env=LOCAL) as server:
            local = re.search(r"clients  url=(\S+)", server.log.wait("listening for local clients")).group(1)
            env = dict(os.environ, INFERD_URL=server.url + "/v1", INFERD_NATIVE_URL=f"http://127.0.0.1:{port}", INFERD_MODEL=MODEL,
                       INFERD_LOCAL_URL=local.removesuffix("/").removesuffix("/v1"))
            return subprocess.run([str(root / "scripts/sdk.sh"), *sys.argv[1:]], env=env, check=False).returncode
    finally:
        worker.terminate()
        worker.wait()


if __name__ == "__main__":
    sys.exit(main())
