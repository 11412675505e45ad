"""Which attention is faster is measured by an idle worker, kept, and taken at the next load."""
import contextlib
import json
import os
import pathlib
import re
import signal
import unittest

from harness import Server, fake_model, run_cli

SMOL = os.path.join(os.environ.get("INFERD_MODELS", ""), "SmolLM2-135M-Instruct.Q4_1.gguf")
NAME = pathlib.Path(SMOL).stem
PATIENCE = 200  # seconds; a measurement takes three on an idle machine


def attention(server, index):
    with contextlib.closing(server.worker(index)) as connection:
        connection.request("GET", "/props")
        return json.loads(connection.getresponse().read())["attention"]


def ubatch(server, index):
    with contextlib.closing(server.worker(index)) as connection:
        connection.request("GET", "/props")
        return json.loads(connection.getresponse().read())["ubatch"]


def choices(server):
    return list(pathlib.Path(server.folder, "s", "tune").glob("*"))


class Idle(unittest.TestCase):
    config = f'import_dirs = ["{pathlib.Path(SMOL).parent}"]\n'

    def test_an_idle_worker_measures_and_the_next_one_takes_it(self):
        with Server(config=self.config) as server:
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            self.assertEqual(attention(server, 1), {"flash": None, "source": "default"})
            self.assertEqual(ubatch(server, 1), {"size": 512, "source": "default"})
            server.log.wait("attention measured", deadline=PATIENCE)
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)  # it still serves
            self.assertEqual([path.suffix for path in choices(server)], [".json"])
            kept = json.loads(choices(server)[0].read_text())
            server.call("POST", f"/v1/models/{NAME}/unload")
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            now = attention(server, 2)
            self.assertEqual((now["source"], now["flash"]), ("measured", kept["flash"]))
            self.assertEqual(now["decode_tps_on"], kept["decode_tps_on"])
            self.assertGreater(now["prompt_tps_off"], 0)
            read = ubatch(server, 2)
            self.assertIn(kept["ubatch"], (0, 128, 256, 512, 1024))
            if kept["ubatch"]:  # 0: this machine was too slow just then for pieces of 512
                self.assertEqual(read, {"size": kept["ubatch"], "source": "measured", "prompt_tps": kept["ubatch_tps"],
                                        "prompt_tps_default": kept["ubatch_tps_default"]})
                self.assertGreaterEqual(read["prompt_tps"], read["prompt_tps_default"] / 1.04)
            self.assertRegex(server.log.text(), r"attention=\"?(flash|plain) \(measured\)")

            # A choice for the plain one is followed, and foreseen by whoever admits the model.
            flash = json.loads(run_cli("show", "--fit", "--json", SMOL, env={"HOME": server.folder})[1])
            choices(server)[0].write_text(json.dumps({**kept, "flash": False, "ubatch": 256}))
            server.call("POST", f"/v1/models/{NAME}/unload")
            server.call("GET", "/v1/models")  # looks at the folders again
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            self.assertEqual(attention(server, 3)["flash"], False)
            self.assertEqual(ubatch(server, 3)["size"], 256)
            text = server.call("GET", "/metrics")[2]
            compute = float(re.search(r'reserved_bytes\{model="' + re.escape(NAME) + r'",kind="compute"\} (\S+)', text)[1])
            self.assertGreater(compute, 2 * flash["compute_bytes"])
            estimate = server.call("GET", f"/v1/models/{NAME}")[2]["inferno"]["memory_estimate_bytes"]
            self.assertAlmostEqual(estimate - flash["total_bytes"], compute - flash["compute_bytes"], delta=0.1 * compute)

            # One measured under other conditions is not.
            choices(server)[0].write_text(json.dumps({**kept, "threads": kept["threads"] + 1}))
            server.call("POST", f"/v1/models/{NAME}/unload")
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            self.assertEqual(attention(server, 4)["source"], "default")

    def test_it_can_be_switched_off_and_forced(self):
        with Server(config=self.config + "[backend_config]\ntune_attention = false\n") as server:
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            arguments = pathlib.Path(f"/proc/{server.status(NAME)['pid']}/cmdline").read_text().split("\0")
            self.assertNotIn("--tune-dir", arguments)
        with Server(config=self.config + '[backend_config]\nflash_attention = "off"\n') as server:
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            self.assertEqual(attention(server, 1), {"flash": False, "source": "forced"})
        with Server(config=self.config + "[backend_config]\nubatch_size = 64\n") as server:
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            self.assertEqual(ubatch(server, 1), {"size": 64, "source": "forced"})
    def test_a_worker_that_measures_ends_when_told(self):
        with Server(config=self.config + 'log_level = "debug"\n') as server:
            self.assertEqual(server.chat(NAME, max_tokens=1)[0], 200)
            pid = server.status(NAME)["pid"]
            server.log.wait("attention is being measured")
            os.kill(pid, signal.SIGTERM)
            server.until(lambda: server.status(NAME).get("pid") != pid)
            self.assertEqual(choices(server), [])
            self.assertNotIn("signal=9", server.log.text())


class AtOnce(unittest.TestCase):
    def test_bench_tune_measures_before_it_opens_the_model(self):
        with Server() as server:
            home = {"HOME": server.folder, "XDG_DATA_HOME": server.folder}
            status, out, err = run_cli("bench", "--tune", "--json", "-s", "1", "-p", "4", "-n", "2", SMOL, env=home)
            self.assertEqual((status, err), (0, ""))
            self.assertIn(json.loads(out)["attention"], ("flash", "plain"))
            kept = list(pathlib.Path(server.folder).glob("inferd/state/tune/*.json"))
            self.assertEqual(len(kept), 1)
            fake_model(server.models, "m", "tokens_per_second=5000")
            status, _, err = run_cli("bench", "--tune", "-s", "1", str(server.models / "m.gguf"), env=home)
            self.assertEqual(status, 1)
            self.assertIn("no kind of attention to choose", err)

    def test_a_worker_measures_at_once_when_asked(self):
        with Server() as server:
            folder = os.path.join(server.folder, "t")
            status, out, err = run_cli("worker", "--model", SMOL, "--tune", "--tune-dir", folder, "--log-level", "warn")
            self.assertEqual((status, err), (0, ""))
            self.assertRegex(out, r"^flash attention (on|off): on [0-9.]+, off [0-9.]+ tokens/s")
            self.assertEqual(len(os.listdir(folder)), 1)
            self.assertEqual(run_cli("worker", "--model", SMOL, "--tune")[0], 2)


if __name__ == "__main__":
    unittest.main()
