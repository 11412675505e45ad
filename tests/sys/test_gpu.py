"""The Vulkan build on Mesa's software device: layers really lie there, and every place that counts memory says so.

INFERD is the Vulkan build's program here, INFERD_CPU the plain one's. llama.cpp passes over software devices unless
GGML_VK_VISIBLE_DEVICES names them."""
import json
import os
import pathlib
import shutil
import struct
import unittest
from unittest import mock

CACHE = os.environ.get("INFERD_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"),
                                                       "inferd")
os.environ["GGML_VK_VISIBLE_DEVICES"] = "0"
os.environ["MESA_SHADER_CACHE_DIR"] = os.path.join(CACHE, "mesa")  # shaders are compiled once, not in every home

from harness import Server, Stream, gguf_text, run_cli  # noqa: E402  (they copy the environment)
from test_vision import PROJECTORS, RED, look, said, seeing_server  # noqa: E402

CPU = os.environ["INFERD_CPU"]
TINY = os.environ["INFERD_TINY"]
SMOL = os.path.join(os.environ.get("INFERD_MODELS", ""), "SmolLM2-135M-Instruct.Q4_1.gguf")
LAYERS = 5  # of the tiny model, the output counted
PATIENCE = 200  # seconds; the first run of a shader compiles it


class Gpu(unittest.TestCase):
    def serve(self, backend="", rest="", models=("a",), counted=True):
        """counted: it has GPUs, and what they are is waited for."""
        server = Server(config=f"log_level = \"debug\"\n{rest}\n[backend_config]\n{backend}\n")
        for name in models:
            shutil.copy(TINY, server.models / f"{name}.gguf")
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        if counted:
            server.log.wait(r"GPU  device=Vulkan0")
        return server

    def load(self, server, model="a", **settings):
        status, _, body = server.call("POST", f"/v1/models/{model}/load", settings)
        return status, body

    def reserved(self, server, model="a"):
        return server.status(model)["reserved"]

    def text(self, server, model="a", tokens=8):
        status, _, body = server.call("POST", "/v1/completions", {"model": model, "prompt": "the end of the", "temperature": 0,
                                                                  "max_tokens": tokens})
        self.assertEqual(status, 200, body)
        return body["choices"][0]["text"]

    def metric(self, server, family, **labels):
        """The sum over the series that have these labels."""
        values = [float(line.rsplit(" ", 1)[1]) for line in server.call("GET", "/metrics")[2].splitlines()
                  if line.startswith(family + "{") and all(f'{key}="{value}"' in line for key, value in labels.items())]
        self.assertTrue(values, family)
        return sum(values)


class Command(unittest.TestCase):
    def test_the_program_knows_its_backends_and_devices(self):
        self.assertRegex(run_cli("version")[1], r"^inferd \S+ \(cpu,vulkan\)$")
        status, out, _ = run_cli("gpu", "--json")
        found = json.loads(out)
        self.assertEqual((status, found["backends"], [gpu["name"] for gpu in found["gpus"]]), (0, "cpu,vulkan", ["Vulkan0"]))
        self.assertIn("llvmpipe", found["gpus"][0]["description"])
        self.assertGreater(found["gpus"][0]["total_bytes"], 1 << 28)
        self.assertIn("Vulkan0", run_cli("gpu")[1])

    def test_software_devices_are_not_used_by_themselves(self):
        environment = {key: value for key, value in os.environ.items() if key != "GGML_VK_VISIBLE_DEVICES"}
        with mock.patch.dict(os.environ, environment, clear=True):
            self.assertEqual(json.loads(run_cli("gpu", "--json")[1])["gpus"], [])

    def test_the_plain_build_says_that_it_has_none(self):
        with mock.patch("harness.INFERD", CPU):
            self.assertRegex(run_cli("version")[1], r"^inferd \S+ \(cpu\)$")
            self.assertEqual(json.loads(run_cli("gpu", "--json")[1]), {"backends": "cpu", "gpus": []})
            self.assertIn("make GPU=vulkan", run_cli("gpu")[1])


class Offload(Gpu):
    def test_all_layers_lie_there_and_everything_that_counts_says_so(self):
        server = self.serve()
        self.assertEqual(self.load(server)[0], 200)
        server.log.wait(rf"layers for a GPU  device=Vulkan0 layers={LAYERS} of={LAYERS} .*reason=all fit")
        reserved = self.reserved(server)
        gpu = reserved["gpus"][0]
        held = gpu["weight_bytes"] + gpu["kv_bytes"] + gpu["compute_bytes"]
        self.assertEqual((gpu["gpu"], gpu["layers"], gpu["kv_bytes"]), ("Vulkan0", LAYERS, reserved["kv_bytes"]))
        self.assertGreater(gpu["weight_bytes"], 0.8 * reserved["weight_bytes"])  # all but the input's tokens
        self.assertLess(gpu["weight_bytes"], reserved["weight_bytes"])
        self.assertGreater(gpu["compute_bytes"], 0)

        listed = server.call("GET", "/v1/models/a")[2]["inferno"]["reserved"]
        self.assertEqual(listed, reserved)
        for kind, bytes_there in (("weights", gpu["weight_bytes"]), ("kv", gpu["kv_bytes"]), ("compute", gpu["compute_bytes"])):
            self.assertEqual(self.metric(server, "inferno_model_gpu_bytes", model="a", gpu="Vulkan0", kind=kind), bytes_there)
        self.assertEqual(self.metric(server, "inferno_model_gpu_layers", model="a", gpu="Vulkan0"), LAYERS)
        snapshot = server.call("GET", "/metrics/snapshot")[2]["system"]
        there = snapshot["gpus"][0]
        self.assertEqual((there["name"], there["used_bytes"]), ("Vulkan0", held))
        self.assertEqual(there["free_bytes"], there["total_bytes"] - held)
        self.assertEqual(snapshot["gpu_usage_percent"], round(100 * held / there["total_bytes"], 1))
        self.assertEqual(server.call("GET", "/health")[2]["system"]["gpu_usage"], snapshot["gpu_usage_percent"])
        for family, value in (("total", there["total_bytes"]), ("free", there["free_bytes"]), ("used", held)):
            self.assertEqual(self.metric(server, f"inferno_gpu_memory_{family}_bytes", gpu="Vulkan0"), value)
        loaded = server.call("GET", "/api/ps")[2]["models"][0]
        self.assertEqual(loaded["size_vram"], held)
        self.assertGreater(loaded["size"], held)

        server.call("POST", "/v1/models/a/unload")
        self.assertIsNone(self.reserved(server))
        self.assertEqual(self.metric(server, "inferno_model_gpu_bytes", model="a"), 0)
        self.assertEqual(self.metric(server, "inferno_gpu_memory_used_bytes"), 0)

    def test_the_text_is_the_processors(self):
        texts = []
        server = self.serve()
        for layers in (0, 2, LAYERS):
            self.assertEqual(self.load(server, gpu_layers=layers, force=True)[0], 200)
            gpus = self.reserved(server)["gpus"]
            self.assertEqual([gpu["layers"] for gpu in gpus], [layers] if layers else [])
            with mock.patch("harness.DEADLINE", PATIENCE):
                texts.append(self.text(server))
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[0], texts[2])

    def test_no_gpu_is_touched_when_the_configuration_says_so(self):
        for backend in ("gpu_enabled = false", "gpu_layers = 0"):
            server = self.serve(backend, counted=backend == "gpu_layers = 0")
            self.assertEqual(self.load(server)[0], 200)
            self.assertEqual(self.reserved(server)["gpus"], [])
            self.assertEqual(server.log.count("layers for a GPU"), 0)
            if backend == "gpu_enabled = false":
                server.call("POST", "/v1/models/a/unload")
                status, body = self.load(server, gpu_layers=2)
                self.assertEqual((status, body["error"]["code"]), (503, "gpu_unavailable"))

    def test_as_many_layers_as_fit(self):
        """With a long context the cache of a layer takes 8 MB, the buffers for computing some 70."""
        server = self.serve('gpu_memory_mb = 90\ncontext_size = 65536\nflash_attention = "on"\n')
        self.assertEqual(self.load(server)[0], 200)
        gpu = self.reserved(server)["gpus"][0]
        self.assertIn(gpu["layers"], range(1, LAYERS))
        held = gpu["weight_bytes"] + gpu["kv_bytes"] + gpu["compute_bytes"]
        self.assertLessEqual(held, 90 << 20)
        self.assertGreater(held + gpu["kv_bytes"] / (gpu["layers"] - 1) * 1.1, 90 << 20)  # one more would not have
        self.assertLess(gpu["kv_bytes"], self.reserved(server)["kv_bytes"])
        server.log.wait(r"reason=more do not fit")
        self.assertEqual(self.load(server, gpu_layers=LAYERS, force=True)[1]["error"]["code"], "insufficient_memory")
        self.assertIn("ask for fewer gpu_layers", server.status("a")["error"])

    def test_where_none_fits_the_processor_does_it(self):
        server = self.serve("gpu_memory_mb = 1")
        self.assertEqual(self.load(server)[0], 200)
        self.assertEqual(self.reserved(server)["gpus"], [])
        server.log.wait(r"reason=none fits")

    def test_named_instances_too(self):
        server = self.serve()
        options = {"backend_type": "worker", "backend_options": {"model": TINY, "gpu_layers": 3}}
        self.assertEqual(server.call("POST", "/api/v1/instances/n", options)[0], 201)
        self.assertEqual(server.call("POST", "/api/v1/instances/n/start")[0], 200)
        server.until(lambda: server.call("GET", "/api/v1/instances/n")[2]["status"] == "running")
        gpu = server.call("GET", "/api/v1/instances/n")[2]["reserved"]["gpus"][0]
        self.assertEqual((gpu["gpu"], gpu["layers"]), ("Vulkan0", 3))


class Eye(Gpu):
    def see(self, gpu_layers):
        server = seeing_server(f'log_level = "debug"\n[backend_config]\ngpu_layers = {gpu_layers}\n')
        server.__enter__()
        self.addCleanup(server.__exit__, None, None, None)
        with mock.patch("harness.DEADLINE", PATIENCE):
            status, reply = look(server, "what is ", RED, "this?")
        self.assertEqual(status, 200, reply)
        return said(reply), self.reserved(server, "eye")["gpus"]

    def test_the_projector_lies_beside_the_model_and_is_counted(self):
        text, gpus = self.see(LAYERS)
        self.assertEqual(gpus[0]["layers"], LAYERS)
        plain = self.serve()
        self.load(plain)
        without = self.reserved(plain)["gpus"][0]
        file = os.path.getsize(PROJECTORS / "mmproj_causal_64.gguf")
        self.assertGreater(gpus[0]["compute_bytes"], without["compute_bytes"] + 0.5 * file)
        self.assertEqual((text, []), self.see(0))


def encoder(path):
    """The tiny model as one that encodes only: two pairs more in the header, of 64 bytes, so that its data stay aligned."""
    model = pathlib.Path(TINY).read_bytes()
    version, tensors, pairs = struct.unpack_from("<IQQ", model, 4)
    more = gguf_text("llama.attention.causal") + struct.pack("<IB", 7, 0) + gguf_text("x") + struct.pack("<I", 8) + gguf_text("y" * 8)
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", version, tensors, pairs + 2) + more + model[24:])


class Encoder(Gpu):
    def test_its_layers_go_there_too(self):
        vectors = []
        for layers in (0, LAYERS):
            server = self.serve(f"gpu_layers = {layers}")
            encoder(server.models / "e.gguf")
            with mock.patch("harness.DEADLINE", PATIENCE):
                status, _, reply = server.call("POST", "/v1/embeddings", {"model": "e", "input": "the end"})
            self.assertEqual(status, 200, reply)
            vectors.append(reply["data"][0]["embedding"])
            self.assertEqual(len(self.reserved(server, "e")["gpus"]), 1 if layers else 0)
        self.assertEqual(self.reserved(server, "e")["gpus"][0]["layers"], LAYERS)
        self.assertGreater(sum(a * b for a, b in zip(*vectors)), 0.999)


class TwoDevices(Gpu):
    """The one software device, named twice."""

    def setUp(self):
        patch = mock.patch.dict(os.environ, {"GGML_VK_VISIBLE_DEVICES": "0,0"})
        patch.start()
        self.addCleanup(patch.stop)

    def test_layers_are_dealt_to_both_and_counted_for_each(self):
        server = self.serve()
        self.assertEqual(self.load(server)[0], 200)
        gpus = self.reserved(server)["gpus"]
        self.assertEqual([(gpu["gpu"], gpu["layers"]) for gpu in gpus], [("Vulkan0", 3), ("Vulkan1", 2)])
        self.assertEqual(sum(gpu["kv_bytes"] for gpu in gpus), self.reserved(server)["kv_bytes"])
        for there, gpu in zip(server.call("GET", "/metrics/snapshot")[2]["system"]["gpus"], gpus):
            held = gpu["weight_bytes"] + gpu["kv_bytes"] + gpu["compute_bytes"]
            self.assertEqual((there["name"], there["used_bytes"]), (gpu["gpu"], held))
            self.assertEqual(self.metric(server, "inferno_gpu_memory_used_bytes", gpu=gpu["gpu"]), held)
        with mock.patch("harness.DEADLINE", PATIENCE):
            self.assertTrue(self.text(server, tokens=4))

    def test_one_of_them_by_name_or_place(self):
        for device in ("Vulkan1", "1"):
            server = self.serve(f'gpu_device = "{device}"')
            self.assertEqual(self.load(server)[0], 200)
            self.assertEqual([(gpu["gpu"], gpu["layers"]) for gpu in self.reserved(server)["gpus"]], [("Vulkan1", LAYERS)])
            self.assertEqual(self.metric(server, "inferno_gpu_memory_used_bytes", gpu="Vulkan0"), 0)


class Ledger(Gpu):
    def test_an_idle_model_leaves_the_gpu_for_the_next(self):
        """Either fits, both do not."""
        server = self.serve("gpu_memory_mb = 12", models=("a", "b"))
        for name in ("a", "b"):
            self.assertEqual(self.load(server, name)[0], 200)
            self.assertEqual(self.reserved(server, name)["gpus"][0]["layers"], LAYERS)
        self.assertEqual(server.status("a")["status"], "unloaded")
        self.assertEqual(self.metric(server, "inferno_gpu_memory_used_bytes"),
                         self.metric(server, "inferno_model_gpu_bytes", model="b"))

    def test_where_nobody_can_leave_the_rest_is_the_processors(self):
        server = self.serve("gpu_memory_mb = 12", models=("a", "b"))
        self.assertEqual(self.load(server, "a", pin=True)[0], 200)
        self.assertEqual(self.load(server, "b")[0], 200)
        self.assertEqual(self.reserved(server, "a")["gpus"][0]["layers"], LAYERS)
        self.assertEqual(self.reserved(server, "b")["gpus"], [])  # what was left is less than one layer's buffers
        server.call("POST", "/v1/models/b/unload")
        status, body = self.load(server, "b", gpu_layers=LAYERS)
        self.assertEqual((status, body["error"]["code"]), (503, "insufficient_memory"))
        self.assertIn("no memory left on Vulkan0 for 'b'", body["error"]["message"])

    def test_a_busy_model_is_waited_for_by_who_asks_for_layers_only(self):
        server = self.serve("gpu_memory_mb = 12", models=("a", "b"))
        self.assertEqual(self.load(server, "a")[0], 200)
        with mock.patch("harness.DEADLINE", PATIENCE):
            stream = Stream(server.port, "/v1/completions", {"model": "a", "prompt": "the", "stream": True, "max_tokens": 4000})
            self.addCleanup(stream.close)
            next(stream.events())
        self.assertEqual(self.load(server, "b")[0], 200)
        self.assertEqual(self.reserved(server, "b")["gpus"], [])
        server.call("POST", "/v1/models/b/unload")
        self.assertEqual(self.load(server, "b", gpu_layers=LAYERS, wait=False)[0], 200)
        waiting = server.status("b")
        self.assertEqual((waiting["status"], waiting["pid"]), ("loading", None))
        self.assertIsNotNone(server.status("a")["pid"])
        stream.close()
        server.until(lambda: server.status("b")["status"] == "loaded")
        self.assertEqual(server.status("a")["status"], "unloaded")
        self.assertEqual(self.reserved(server, "b")["gpus"][0]["layers"], LAYERS)

    def test_two_that_start_at_once_do_not_both_take_what_is_free(self):
        server = self.serve(models=("a", "b"))
        for name in ("a", "b"):
            self.assertEqual(self.load(server, name, wait=False)[0], 200)
        server.until(lambda: all(server.status(name)["status"] == "loaded" for name in ("a", "b")))
        first, second = (pathlib.Path(f"/proc/{server.status(name)['pid']}/cmdline").read_text().split("\0") for name in ("a", "b"))
        self.assertNotIn("--gpu-memory-mb", first)
        total = server.call("GET", "/metrics/snapshot")[2]["system"]["gpus"][0]["total_bytes"] >> 20
        self.assertIn(int(second[second.index("--gpu-memory-mb") + 1]), range(total // 2, total - 128))
        self.assertEqual([self.reserved(server, name)["gpus"][0]["layers"] for name in ("a", "b")], [LAYERS, LAYERS])

    def test_both_stay_where_there_is_room(self):
        server = self.serve("gpu_memory_mb = 40", models=("a", "b"))
        for name in ("a", "b"):
            self.assertEqual(self.load(server, name)[0], 200)
            self.assertEqual(self.reserved(server, name)["gpus"][0]["layers"], LAYERS)
        used = self.metric(server, "inferno_gpu_memory_used_bytes")
        self.assertEqual(used, self.metric(server, "inferno_model_gpu_bytes"))
        self.assertGreater(used, 1.9 * self.metric(server, "inferno_model_gpu_bytes", model="a"))


class Refusals(Gpu):
    def test_a_gpu_that_is_not_there(self):
        server = self.serve('gpu_device = "Vulkan7"')
        status, body = self.load(server)
        self.assertEqual((status, body["error"]["code"]), (503, "gpu_unavailable"))
        self.assertRegex(body["error"]["message"], r"no GPU 'Vulkan7' here; there are: Vulkan0 \(llvmpipe")

    def test_the_plain_build_refuses_layers_and_a_required_gpu(self):
        with mock.patch("harness.INFERD", CPU):
            server = self.serve(counted=False)
            status, body = self.load(server, gpu_layers=3)
            self.assertEqual((status, body["error"]["code"]), (503, "gpu_unavailable"))
            self.assertEqual(self.load(server, gpu_layers=0)[0], 200)
            self.assertIsNone(server.call("GET", "/health")[2]["system"]["gpu_usage"])
            self.assertEqual(server.call("GET", "/metrics/snapshot")[2]["system"]["gpus"], [])
            self.assertEqual(server.call("GET", "/api/ps")[2]["models"][0]["size_vram"], 0)
            server = self.serve("gpu_enabled = true", counted=False)
            self.assertEqual(self.load(server)[1]["error"]["code"], "gpu_unavailable")

    def test_a_worker_by_itself_ends_with_the_status_for_gpus(self):
        with mock.patch("harness.INFERD", CPU):
            status, _, err = run_cli("worker", "--model", TINY, "--listen", "127.0.0.1:0", "--gpu-layers", "3")
        self.assertEqual(status, 8)
        self.assertIn("the engine finds none (backends: cpu)", err)


class Tuning(Gpu):
    def test_what_is_measured_for_the_processor_is_not_for_layers_on_a_gpu(self):
        folder = self.serve().folder
        arguments = ("worker", "--model", TINY, "--tune", "--tune-dir", os.path.join(folder, "t"), "--log-level", "warn")
        status, _, err = run_cli(*arguments)
        self.assertEqual(status, 1)
        self.assertIn("no kind of attention to choose", err)


class Fit(Gpu):
    def test_the_prediction_is_what_the_worker_takes(self):
        server = self.serve(rest=f'import_dirs = ["{pathlib.Path(SMOL).parent}"]')
        name = pathlib.Path(SMOL).stem
        predicted = json.loads(run_cli("show", "--fit", "--json", SMOL, env={"HOME": server.folder})[1])
        self.assertEqual((predicted["gpu_layers"], predicted["gpus"][0]["layers"]), (31, 31))
        self.assertEqual(self.load(server, name)[0], 200)
        gpu = self.reserved(server, name)["gpus"][0]
        held = gpu["weight_bytes"] + gpu["kv_bytes"] + gpu["compute_bytes"]
        self.assertAlmostEqual(predicted["gpu_bytes"], held, delta=0.1 * held)
        self.assertIn("31 of 31 layers", run_cli("show", "--fit", SMOL, env={"HOME": server.folder})[1])


if __name__ == "__main__":
    unittest.main()
