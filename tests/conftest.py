"""Images that tests make for themselves, with no data from outside; and settings that quieten TensorFlow."""

import io
import os
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as in every run of keras-bench

SHARED = Path(__file__).parents[2] / "shared"

digits = cache(load_digits)  # loading them takes as long as making a hundred images from them


def digit_image(position: int, side: int = 16) -> Image.Image:
    """Return a real scan of a digit, enlarged and tinted, so that JPEG has detail and colour to compress."""
    gray = digits().images[position] * (255 / 16)
    tint = 0.6 + 0.4 * np.array([position % 2, position % 3 / 2, position % 5 / 4])
    return Image.fromarray((gray[..., None] * tint).astype(np.uint8)).resize((side, side))


def encoded(image: Image.Image, kind: str = "JPEG", **options) -> bytes:
    """Return an image encoded as a file of this format."""
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def _isolated_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every test away from the user's cache, weights and data."""
    monkeypatch.setenv("KERAS_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras-home"))
    monkeypatch.delenv("KERAS_BENCH_DATA", raising=False)


@pytest.fixture
def emulated_tf32(monkeypatch: pytest.MonkeyPatch):
    """Layers that round as TF32 does while TensorFlow allows it; the flag is restored afterwards (see tests.tf32)."""
    from tests.tf32 import allow, allowed, emulate

    before = allowed()
    yield emulate(monkeypatch)
    allow(before)


@pytest.fixture
def image_folder(tmp_path: Path) -> Path:
    """Three classes with 12, 20 and 30 images, one folder per class."""
    root = tmp_path / "photos"
    targets = digits().target
    for digit, count in ((0, 12), (1, 20), (2, 30)):
        folder = root / f"class {digit}"
        folder.mkdir(parents=True)
        for position in np.flatnonzero(targets == digit)[:count]:
            (folder / f"scan{position:04d}.jpg").write_bytes(encoded(digit_image(int(position))))
    return root


@pytest.fixture
def tiny_imagenet_folder(tmp_path: Path) -> Path:
    """Tiny ImageNet's layout, with three classes of 10 train and 4 val images each."""
    root = tmp_path / "tiny-imagenet-200"
    targets = digits().target
    wnids = ["n02000000", "n01000000", "n03000000"]
    lines = []
    for digit, wnid in enumerate(wnids):
        positions = np.flatnonzero(targets == digit)
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "val" / "images").mkdir(parents=True, exist_ok=True)
        for i, position in enumerate(positions[:10]):
            (root / "train" / wnid / "images" / f"{wnid}_{i}.JPEG").write_bytes(encoded(digit_image(int(position))))
        for position in positions[10:14]:
            (root / "val" / "images" / f"val_{position}.JPEG").write_bytes(encoded(digit_image(int(position))))
            lines.append(f"val_{position}.JPEG\t{wnid}\t0\t0\t15\t15\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    (root / "wnids.txt").write_text("\n".join(wnids) + "\n")
    (root / "words.txt").write_text("n01000000\tgoldfish, Carassius auratus\nn02000000\tjackfruit\nn09\tnot here\n")
    return root


@pytest.fixture
def tiny_imagenet_zip(tiny_imagenet_folder: Path) -> Path:
    return Path(
        shutil.make_archive(str(tiny_imagenet_folder), "zip", tiny_imagenet_folder.parent, tiny_imagenet_folder.name)
    )


@pytest.fixture
def shared_mini() -> Path:
    path = SHARED / "data" / "tiny-imagenet-mini.zip"
    if not path.is_file():
        pytest.skip("needs a part of the real Tiny ImageNet (tiny-imagenet-mini.zip), which is not in the repository")
    return path


@pytest.fixture
def shared_forty() -> Path:
    path = SHARED / "data" / "tiny-imagenet-40.zip"
    if not path.is_file():
        pytest.skip("needs 40 classes of the real Tiny ImageNet (tiny-imagenet-40.zip), which is not in the repository")
    return path


@pytest.fixture
def shared_keras_home() -> Path:
    path = SHARED / "keras-home"
    if not path.is_dir():
        pytest.skip("needs real ImageNet weights of MobileNet 0.75, which are not in the repository")
    return path
