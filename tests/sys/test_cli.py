"""The command line against the real binary: exit statuses, JSON, help, and a model file with no server at all."""
import contextlib
import json
import os
import pathlib
import pty
import select
import subprocess
import tempfile
import time
import unittest

from harness import INFERD, Server, fake_model, run_cli

SMOL = os.path.join(os.environ.get("INFERD_MODELS", ""), "SmolLM2-135M-Instruct.Q4_1.gguf")


class Plain(unittest.TestCase):
    def test_help_lists_every_command_and_every_command_has_help(self):
        status, out, _ = run_cli("--help")
        self.assertEqual(status, 0)
        commands = [line.split()[0] for line in out.split("commands:\n")[1].split("\n\n")[0].splitlines()]
        self.assertIn("serve", commands)
        for command in commands:
            if command == "version":
                continue
            status, out, err = run_cli(command, "--help")
            self.assertEqual((status, err), (0, ""), command)
            self.assertIn("usage: inferd " + command, out)

    def test_completion_completes_and_the_manual_knows_every_command(self):
        script = run_cli("completion", "bash")[1]
        done = subprocess.run(["bash", "-c", script + "\nCOMP_WORDS=(inferd serve --mod); COMP_CWORD=2; _inferd; echo ${COMPREPLY[@]}"],
                              capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.split(), ["--models-dir", "--model"])
        manual = run_cli("completion", "man")[1]
        for word in (".SS inferd serve", ".SS inferd doctor", "cache.model_ttl_seconds", "\\-\\-models-dir"):
            self.assertIn(word, manual)

    def test_wrong_use_is_exit_2_and_says_what_was_meant(self):
        for args, word in ((("serv",), "did you mean 'serve'?"), (("serve", "--prot", "1"), "prot"), (("run",), "name a model"),
                           (("config",), "check"), (("stop",), "name one model")):
            status, _, err = run_cli(*args)
            self.assertEqual(status, 2, args)
            self.assertIn(word, err)

    def test_no_server_is_exit_5_and_says_how_to_start_one(self):
        status, _, err = run_cli("ps", url="http://127.0.0.1:1")
        self.assertEqual(status, 5)
        self.assertIn("inferd serve", err)

    def test_config_check(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "x.toml"
            file.write_text("[server]\nport = 8081\n")
            self.assertEqual(run_cli("config", "check", str(file))[0], 0)
            file.write_text("[server]\nport = 'x'\n")
            status, _, err = run_cli("config", "check", str(file))
            self.assertEqual(status, 3)
            self.assertIn("x.toml:2: 'server.port' must be a whole number", err)

    def test_config_show_can_be_read_back(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, _ = run_cli("config", "show", env={"HOME": folder})
            self.assertEqual(status, 0)
            file = pathlib.Path(folder) / "x.toml"
            file.write_text(out)
            self.assertEqual(run_cli("config", "check", str(file))[0], 0)

    def test_show_describes_a_file_without_a_server(self):
        status, out, _ = run_cli("show", SMOL)
        self.assertEqual(status, 0)
        self.assertIn("Q4_1", out)
        self.assertIn("135M", out)

    def test_show_fit_says_what_a_model_takes(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = run_cli("show", "--fit", "--json", SMOL, env={"HOME": folder})
            self.assertEqual((status, err), (0, ""))
            fit = json.loads(out)
            self.assertEqual((fit["context"], fit["kv_bytes_per_token"], fit["fits"]), (8192, 30 * 3 * 64 * 2 * 2, True))
            self.assertEqual(fit["kv_bytes"], 8192 * fit["kv_bytes_per_token"])
            parts = [fit[key + "_bytes"] for key in ("weight", "copy", "kv", "state", "compute", "output", "program")]
            self.assertEqual(sum(parts), fit["total_bytes"])
            self.assertLessEqual(fit["longest_context"], 8192)
            config = pathlib.Path(folder) / "x.toml"
            config.write_text('[backend_config]\nkv_type = "q8_0"\n')
            status, out, _ = run_cli("show", "--fit", "--context-size", "1000", "-c", str(config), SMOL,
                                     env={"HOME": folder})
            self.assertEqual(status, 0)
            self.assertIn("q8_0 cells", out)
            self.assertIn("12.5 MB", out)  # 1024 cells of 34 bytes for 32 elements
            self.assertEqual(run_cli("show", "--fit", "--context-size", "x", SMOL)[0], 2)
            self.assertEqual(run_cli("show", "--fit", "nope", env={"HOME": folder})[0], 4)

    def test_doctor_speaks_json(self):
        with tempfile.TemporaryDirectory() as folder:
            _, out, _ = run_cli("doctor", "--json", env={"HOME": folder})
            self.assertIn("memory", [row["check"] for row in json.loads(out)])


class WithServer(unittest.TestCase):
    def test_list_show_ps_stop(self):
        with Server() as server:
            fake_model(server.models, "m", "tokens_per_second=5000")
            self.assertEqual(json.loads(run_cli("list", "--json", url=server.url)[1])["data"][0]["id"], "m")
            self.assertIn("unloaded", run_cli("show", "m", url=server.url)[1])
            self.assertEqual(json.loads(run_cli("ps", "--json", url=server.url)[1]), [])
            status, out, err = run_cli("run", "m", "hello", "-n", "5", url=server.url)
            self.assertEqual(status, 0, err)
            self.assertTrue(out.strip())
            self.assertEqual(json.loads(run_cli("ps", "--json", url=server.url)[1])[0]["status"], "loaded")
            status, out, _ = run_cli("stop", "m", url=server.url)
            self.assertEqual(status, 0)
            self.assertIn("freed", out)
            self.assertEqual(json.loads(run_cli("ps", "--json", url=server.url)[1]), [])

    def test_an_unknown_model_is_exit_4(self):
        with Server() as server:
            for command in (("run", "nope", "x"), ("show", "nope"), ("stop", "nope")):
                status, _, err = run_cli(*command, url=server.url)
                self.assertEqual(status, 4, command)
                self.assertIn("'nope' was not found", err)


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *args, env):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.execve(INFERD, [INFERD, *args], {**os.environ, **env, "TERM": "xterm"})
        self.text = ""

    def wait(self, word, deadline=30):
        """Reads until word has come; returns what stood before it."""
        end = time.monotonic() + deadline
        while word not in self.text:
            if time.monotonic() > end or not select.select([self.fd], [], [], deadline)[0]:
                raise AssertionError(f"{word!r} did not come:\n{self.text[-2000:]}")
            self.text += os.read(self.fd, 4096).decode(errors="replace")
        before, self.text = self.text.split(word, 1)
        return before

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        with contextlib.suppress(OSError):
            while os.read(self.fd, 4096):
                pass
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        return os.waitstatus_to_exitcode(status)


class Chat(unittest.TestCase):
    def test_ctrl_c_ends_an_answer_and_ctrl_d_the_chat(self):
        with tempfile.TemporaryDirectory() as folder:
            fake_model(folder, "m", "tokens_per_second=50")
            terminal = Terminal("chat", "-t", "0", folder + "/m.gguf", env={"HOME": folder})
            terminal.wait(">>> ")
            terminal.type("abc|\r")
            terminal.wait("abc|abc|") # the fake repeats it for ever
            terminal.type("\x03")
            terminal.wait(">>> ")
            terminal.type("/clear\r")
            terminal.wait(">>> ")
            terminal.type("xyz|\r")
            terminal.wait("xyz|xyz|")
            terminal.type("\x03")
            terminal.wait(">>> ")
            terminal.type("\x04")
            self.assertEqual(terminal.end(), 0)


class RealModel(unittest.TestCase):
    def test_a_file_is_run_with_no_server(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = run_cli("run", SMOL, "-t", "0", "-n", "16", "Say hello.", env={"HOME": folder})
            self.assertEqual(status, 0, err)
            self.assertGreater(len(out.strip()), 3)

    def test_bench_measures_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            status, out, err = run_cli("bench", "--json", "-s", "1,2", "-p", "16", "-n", "4", SMOL, env={"HOME": folder})
            self.assertEqual((status, err), (0, ""))
            bench = json.loads(out)
            self.assertEqual((bench["prompt_tokens"], bench["generated_tokens"]), (16, 4))
            self.assertEqual([run["streams"] for run in bench["runs"]], [1, 2])
            for run in bench["runs"]:
                self.assertTrue(all(value > 0 for value in run.values()), run)
                self.assertLessEqual(run["gap_p50_ms"], run["gap_p99_ms"])
                self.assertLessEqual(run["first_token_ms"], run["first_token_worst_ms"] + 0.001)
            status, out, err = run_cli("bench", "-s", "2", "-p", "4", "-n", "2", SMOL, env={"HOME": folder})
            self.assertEqual((status, err), (0, ""))  # no progress where nobody watches
            self.assertEqual([line.split()[0] for line in out.splitlines()[1:]], ["streams", "2"])
            self.assertEqual(run_cli("bench", "-s", "0", SMOL)[0], 2)
            self.assertEqual(run_cli("bench", "-p", "4096", "-n", "4097", SMOL)[0], 2)
            self.assertEqual(run_cli("bench", "nope", env={"HOME": folder})[0], 4)

    def test_a_worker_reserves_what_was_predicted(self):
        name = pathlib.Path(SMOL).stem
        with Server(config=f'import_dirs = ["{pathlib.Path(SMOL).parent}"]\n') as server:
            fit = json.loads(run_cli("show", "--fit", "--json", SMOL, env={"HOME": str(server.models)})[1])
            self.assertEqual(server.call("GET", f"/v1/models/{name}")[2]["inferno"]["memory_estimate_bytes"],
                             fit["total_bytes"])
            self.assertEqual(server.chat(name, max_tokens=1)[0], 200)
            reserved = {}
            for line in server.call("GET", "/metrics")[2].splitlines():
                if line.startswith("inferno_model_reserved_bytes") and f'model="{name}"' in line:
                    reserved[line.split('kind="')[1].split('"')[0]] = float(line.rsplit(" ", 1)[1])
            self.assertEqual(reserved["weights"], fit["weight_bytes"])
            self.assertEqual(reserved["kv"], fit["kv_bytes"])
            self.assertAlmostEqual(reserved["compute"], fit["compute_bytes"], delta=0.1 * reserved["compute"])


if __name__ == "__main__":
    unittest.main()
