"""Clients without keras-bench: the code of docs/onnx-bundles.md, as printed, in a bundle's folder."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from keras_bench.bundle.model import Bundle
from keras_bench.export.files import write_labels, write_samples, write_sums
from keras_bench.models.onnx import save, to_onnx
from tests.models.test_onnx import build

PAGE = Path(__file__).parents[1] / "docs" / "onnx-bundles.md"
NAMES = ["gold<i>fish", "ночь", "c"]


def printed(language, mark):
    """Return the page's code block in a language that contains `mark`."""
    blocks = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (match,) = [block for block in blocks if mark in block]
    return match


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A real network's bundle, and the probabilities that the Python runner gives."""
    folder = tmp_path_factory.mktemp("bundle")
    model = build("MobileNet", alpha=0.25)
    save(to_onnx([(model, 1.0)], {"class_names": NAMES, "image_size": 48}), folder / "model.onnx")
    write_labels(folder, NAMES, NAMES)
    write_sums(folder)
    image = np.random.default_rng(0).integers(0, 256, (70, 55, 3)).astype(np.uint8)
    truth = Bundle(folder).predict([image])
    write_samples(folder, [image], {"model.onnx": truth}, NAMES[:1])
    return folder, truth[0]


def check(output, truth):
    title, _, numbers = output.strip().partition(" [")
    assert title == NAMES[int(truth.argmax())]
    np.testing.assert_allclose(json.loads("[" + numbers), truth, atol=1e-4)


def install(folder, *packages):
    """Install from the registry, or skip with the reason; install scripts, which download GPU libraries, are off."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    (folder / "package.json").write_text('{"type": "module"}')
    command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *packages]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install {packages}: {done.stderr[-200:]}")


def test_python_with_onnxruntime_alone(bundle):
    folder, truth = bundle
    code = printed("python", "InferenceSession")
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    check(done.stdout, truth)


@pytest.mark.slow
def test_node(bundle):
    folder, truth = bundle
    install(folder, "onnxruntime-node", "pngjs")
    (folder / "classify.js").write_text(printed("js", "onnxruntime-node"))
    done = subprocess.run(["node", "classify.js"], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    check(done.stdout, truth)


@pytest.mark.slow
def test_browser(bundle, tmp_path):
    folder, truth = bundle
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    install(folder, "onnxruntime-web")
    (folder / "index.html").write_text(printed("html", "onnxruntime-web"))
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [chromium, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--virtual-time-budget=600000", "--dump-dom", f"http://127.0.0.1:{server.server_port}/index.html"]
        for _ in range(3):  # on a busy machine Chromium's virtual time can run out while the page is still empty
            done = subprocess.run(command, capture_output=True, text=True, timeout=180)
            body = re.search(r"<body>(.*?)</body>", done.stdout, flags=re.DOTALL)
            if body and body.group(1).strip():
                break
        server.shutdown()
    assert body, done.stdout[-500:] + done.stderr[-500:]
    check(body.group(1).replace("&lt;", "<").replace("&gt;", ">"), truth)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_words):
        """Say nothing."""
