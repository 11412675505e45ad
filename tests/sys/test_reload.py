"""SIGHUP: the configuration is read again, and only what changed is touched."""
import contextlib
import pathlib
import signal
import unittest

from harness import Server, fake_model


class Reload(unittest.TestCase):
    @staticmethod
    def reload(server, text, until):
        pathlib.Path(server.config).write_text(text)
        server.process.send_signal(signal.SIGHUP)
        server.log.wait(until)

    def test_limits_apply_at_once(self):
        with Server() as server:
            self.assertNotIn("X-RateLimit-Limit", server.call("GET", "/v1/models")[1])
            self.reload(server, "[security]\nrate_limit = 5\n", "configuration changed  key=security.rate_limit")
            self.assertEqual(server.call("GET", "/v1/models")[1]["X-RateLimit-Limit"], "5")

    def test_only_models_whose_table_changed_are_reloaded(self):
        with Server(config='[models."b"]\ncontext_size = 512\n') as server:
            for name in ("a", "b"):
                fake_model(server.models, name, "tokens_per_second=100")
                server.chat(name)
            first = {name: server.status(name)["pid"] for name in ("a", "b")}
            with contextlib.closing(server.stream("a", max_tokens=60, ignore_eos=True)) as a, \
                    contextlib.closing(server.stream("b", max_tokens=60, ignore_eos=True)) as b:
                a.first_text()
                b.first_text()
                self.reload(server, '[models."b"]\ncontext_size = 1024\n', "configuration changed  key=models.b")
                self.assertEqual(list(a.events())[-1], "[DONE]")
                self.assertEqual(list(b.events())[-1], "[DONE]")  # it may end before its process does
            server.until(lambda: server.status("b")["status"] == "unloaded")
            self.assertEqual(server.status("a")["pid"], first["a"])
            self.assertEqual(server.chat("b", content="x" * 700)[0], 200)
            self.assertNotEqual(server.status("b")["pid"], first["b"])

    def test_new_folders_and_warm_models(self):
        with Server() as server:
            other = pathlib.Path(server.folder, "other")
            other.mkdir()
            fake_model(other, "new", "tokens_per_second=100")
            self.reload(server, f'import_dirs = ["{other}"]\n[cache]\nalways_warm = ["new"]\n',
                        "instance running  instance=new")

    def test_what_needs_a_restart_says_so_and_mistakes_change_nothing(self):
        with Server() as server:
            self.reload(server, "[server]\nmax_connections = 9\n", "changes at the next start  key=server.max_connections")
            self.reload(server, "[server]\nprot = 1\n", "the configuration stays as it was")
            self.assertEqual(server.call("GET", "/health")[0], 200)
            self.reload(server, "[security]\nauth_enabled = true\n", "at the next start  key=security.auth_enabled")
            self.assertEqual(server.call("GET", "/v1/models")[0], 200)


if __name__ == "__main__":
    unittest.main()
