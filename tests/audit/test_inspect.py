"""The audit of folders with known faults, and near-duplicates compared with a search over all pairs."""

import io
import json
from dataclasses import replace

import imagehash
import numpy as np
import pytest
from PIL import Image

from keras_bench.audit.duplicates import NEAR_DISTANCE, find_duplicates
from keras_bench.audit.findings import Audit, DuplicateGroup
from keras_bench.audit.inspect import audit_images
from keras_bench.audit.leaks import find_leaks
from keras_bench.audit.likeness import MIN_LIKENESS, compared_levels, likeness
from keras_bench.config import DatasetConfig
from keras_bench.console import Log
from keras_bench.data.folder import open_folder
from keras_bench.data.index import ImageIndex, SplitTable
from keras_bench.data.sources import guess_source
from keras_bench.data.splits import split_images
from keras_bench.data.store import ImageStore
from keras_bench.errors import UserError
from tests.conftest import digits, encoded


def scene(seed, side=64):
    """A smooth random picture that, like a photograph, has large and small shapes."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def put(root, name, content):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def faulty(tmp_path):
    """train/ and test/ of two classes with 12 and 40 training images, and one of each fault."""
    root = tmp_path / "photos"
    for i in range(12):
        put(root, f"train/cat/{i:02}.jpg", encoded(scene(i)))
    for i in range(40):
        put(root, f"train/dog/{i:02}.jpg", encoded(scene(100 + i)))
    for i in range(5):
        put(root, f"test/cat/{i}.jpg", encoded(scene(200 + i)))
        put(root, f"test/dog/{i}.jpg", encoded(scene(300 + i)))
    first = Image.open(root / "train/cat/00.jpg")
    put(root, "test/cat/copy.png", encoded(first, "PNG"))  # exact, across splits, under another name and format
    put(root, "train/dog/99.jpg", encoded(Image.open(root / "train/cat/01.jpg"), quality=50))  # near, another label
    put(root, "train/dog/small.jpg", encoded(scene(105).resize((32, 32))))  # near, half the size
    for i in range(3):
        put(root, f"train/dog/flat{i}.png", encoded(Image.new("RGB", (64, 64), (i, 0, 0)), "PNG"))  # alike, not copies
    put(root, "train/cat/broken.jpg", encoded(scene(7))[:200])
    put(root, "train/cat/gray.jpg", encoded(scene(400).convert("L")))
    put(root, "train/dog/print.jpg", encoded(scene(401).convert("CMYK")))
    return root


def audit_of(root, memory=1 << 20):
    """Audit a folder; images without an official split all count as train."""
    index = open_folder(root, Log())
    store = ImageStore(index, memory)
    store.load(Log())
    official = np.array(index.official)
    test = np.flatnonzero((official == "test") & store.readable)
    train = np.flatnonzero((official != "test") & store.readable)
    splits = SplitTable({"train": train, "val": np.array([], dtype=np.int64), "test": test}, "made up")
    return audit_images(index, splits, store, "f", Log())


def test_every_fault_is_found_and_counted_once(faulty):
    audit = audit_of(faulty)
    assert audit.images == 12 + 40 + 10 + 1 + 1 + 1 + 3 + 1 + 1 + 1
    assert list(audit.unreadable) == ["train/cat/broken.jpg"]
    assert (audit.exact_groups, audit.near_groups) == (1, 2)
    assert (audit.across_splits, audit.conflicting) == (1, 1)
    assert [(group.kind, group.ids, group.splits, group.classes) for group in audit.groups] == [
        ("exact", ("test/cat/copy.png", "train/cat/00.jpg"), ("test", "train"), ("cat", "cat")),
        ("near", ("train/cat/01.jpg", "train/dog/99.jpg"), ("train", "train"), ("cat", "dog")),
        ("near", ("train/dog/05.jpg", "train/dog/small.jpg"), ("train", "train"), ("dog", "dog")),
    ]
    assert (audit.leaks["train"].exact, audit.leaks["train"].near) == (("train/cat/00.jpg",), ())
    assert audit.images_per_class["cat"] == {"train": 13, "val": 0, "test": 6}
    assert audit.imbalance == pytest.approx(51 / 19)
    assert audit.widths == {32: 1, 64: 69}
    assert audit.modes == {"RGB": 68, "L": 1, "CMYK": 1}
    assert audit.formats == {"JPEG": 66, "PNG": 4}
    assert [line.split(":")[0] for line in audit.problems] == [
        "unreadable images",
        "val or test images with an exact or near-duplicate in train",
        "groups of duplicates",
        "groups of duplicates with different labels",
    ]


def test_the_findings_do_not_depend_on_which_images_are_cached(faulty):
    assert audit_of(faulty, memory=0) == audit_of(faulty)


def test_imbalance_and_classes_with_few_images_are_reported(tmp_path):
    for i in range(40):
        put(tmp_path, f"many/{i}.jpg", encoded(scene(i)))
    for i in range(8):
        put(tmp_path, f"few/{i}.jpg", encoded(scene(100 + i)))
    problems = audit_of(tmp_path).problems
    assert "class 'many' has 40 images, 'few' 8 (5.0 to 1); read balanced accuracy rather" in problems[0]
    assert "classes with fewer than 10 training images: 1, e.g. 'few'" in problems[1]


def test_wordnet_classes_overlap_with_the_pretraining_data(tmp_path, faulty):
    for name in ("n01443537", "n02132136"):
        for i in range(12):
            put(tmp_path / "wordnet", f"{name}/{i}.jpg", encoded(scene(int(name[1:]) % 1000 + i)))
    assert "as in ImageNet-1k" in audit_of(tmp_path / "wordnet").pretraining_overlap
    assert audit_of(faulty).pretraining_overlap == ""


def test_scans_that_look_alike_are_not_duplicates(tmp_path):
    """The hash alone calls half of the sixes near-duplicates, though none of scikit-learn's scans is a copy."""
    for name in (4, 6):
        for i, position in enumerate(np.flatnonzero(digits().target == name)):
            scan = Image.fromarray(np.round(digits().images[position] * 255 / 16).astype(np.uint8))
            put(tmp_path, f"{'test' if i % 10 == 0 else 'train'}/{name}/{i}.png", encoded(scan.resize((64, 64)), "PNG"))
    copy = Image.open(tmp_path / "test/6/0.png")
    put(tmp_path, "train/6/copy.jpg", encoded(copy, quality=50))  # a true one is found among them
    audit = audit_of(tmp_path)
    assert (audit.exact_groups, audit.near_groups) == (0, 1)
    assert [group.ids for group in audit.groups] == [("test/6/0.png", "train/6/copy.jpg")]
    assert audit.leaks["train"].near == ("train/6/copy.jpg",)


def leaks_of(near, exact=0, size=400):
    """Find the leaks of a class of `size` training images, some near-duplicates or copies of one test image."""
    ids = ("test/a", *(f"train/{i:03}" for i in range(size)))
    index = ImageIndex(
        "folder", "made up", ("a",), ("a",), ids, np.zeros(size + 1, np.int64), ("",) * (size + 1), bytes
    )
    digests = {i: b"t" if i <= exact else str(i).encode() for i in range(size + 1)}
    members = ids[: 1 + exact + near]
    groups = [DuplicateGroup("near", members, ("test", *("train",) * (exact + near)), ("a",) * len(members))]
    split_of = {i: "train" if i else "test" for i in range(size + 1)}
    return find_leaks(index, digests, groups, split_of)["train"]


def test_near_duplicates_of_more_than_one_percent_of_a_class_are_removed_by_near_always_only():
    few, many = leaks_of(near=4), leaks_of(near=5, exact=2)
    assert few.alike == ()
    assert sorted(few.left_out("near")) == list(few.near) == [f"train/{i:03}" for i in range(4)]
    assert many.exact == ("train/000", "train/001")
    assert many.near == tuple(f"train/{i:03}" for i in range(2, 7))
    ((alike,),) = (many.alike,)
    assert (alike.name, alike.ids, alike.of) == ("a", many.near, 400)
    assert alike.examples == tuple((name, "test/a") for name in many.near[:3])
    for rule, left_out in (
        ("near", many.exact),
        ("near_always", many.exact + many.near),
        ("exact", many.exact),
        ("none", ()),
    ):
        assert tuple(sorted(many.left_out(rule))) == left_out
        assert set(many.kept(rule)) == set(many.exact + many.near) - set(left_out)
    assert leaks_of(near=2, size=12).alike == ()  # a sixth of the class, but two may well be copies
    assert len(leaks_of(near=3, size=12).alike) == 1


def test_an_audit_survives_a_round_trip_through_json(faulty):
    audit = audit_of(faulty)
    many = replace(audit, leaks={"train": leaks_of(near=5), "val": audit.leaks["val"]})
    for written in (audit, many):
        assert Audit.from_json(json.loads(json.dumps(written.to_json()))) == written


def test_groups_equal_those_of_comparing_all_pairs():
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 2**63, 60, dtype=np.uint64)
    hashes = []
    for centre in centres:
        for bits in (0, 3, 6, 7, 9):
            flips = generator.choice(64, bits, replace=False)
            hashes.append(int(centre) ^ sum(1 << int(bit) for bit in flips))
    digests = [str(i).encode() for i in range(len(hashes))]
    duplicates = {frozenset(members) for _, members in find_duplicates(digests, hashes)}
    near = {
        (i, j) for i in range(len(hashes)) for j in range(i) if (hashes[i] ^ hashes[j]).bit_count() <= NEAR_DISTANCE
    }
    parent = list(range(len(hashes)))

    def root(i):
        return i if parent[i] == i else root(parent[i])

    for i, j in near:
        parent[root(i)] = root(j)
    groups = {}
    for i in range(len(hashes)):
        groups.setdefault(root(i), set()).add(i)
    assert duplicates == {frozenset(group) for group in groups.values() if len(group) > 1}


def test_without_duplicates_there_are_no_groups():
    assert find_duplicates([b"a", b"b"], [0, 2**64 - 1]) == []
    assert find_duplicates([b"a", b"b"], [None, None]) == []
    assert find_duplicates([], []) == []
    assert find_duplicates([b"a", b"b", b"a"], [None] * 3) == [("exact", [0, 2])]


def test_the_hash_equals_that_of_the_library_for_the_original_image():
    from keras_bench.audit.inspect import _facts

    for seed in range(20):
        picture = scene(seed, side=90 + seed)
        facts = _facts(np.asarray(picture), "PNG", "RGB")
        assert f"{facts.phash:016x}" == str(imagehash.phash(picture))


def test_the_source_is_guessed_from_the_layout(image_folder, tiny_imagenet_folder, tiny_imagenet_zip, tmp_path):
    assert guess_source(image_folder) == "folder"
    assert guess_source(tiny_imagenet_folder) == "tiny-imagenet"
    assert guess_source(tiny_imagenet_folder.parent) == "tiny-imagenet"
    assert guess_source(tiny_imagenet_zip) == "tiny-imagenet"
    text = tmp_path / "notes.txt"
    text.write_text("hello")
    with pytest.raises(UserError, match="expected a folder or a zip"):
        guess_source(text)
    with pytest.raises(UserError, match="no such file or folder"):
        guess_source(tmp_path / "nowhere")


@pytest.mark.slow
def test_the_one_copy_in_forty_classes_of_tiny_imagenet_is_found(shared_forty):
    from keras_bench.data.tiny_imagenet import open_tiny_imagenet

    index = open_tiny_imagenet(shared_forty, Log())
    store = ImageStore(index, 0)
    audit = audit_images(index, split_images(index, DatasetConfig()), store, "f", Log())
    pair = ("train/n03770439/images/n03770439_128.JPEG", "val/images/val_5819.JPEG")
    assert [(group.kind, group.ids) for group in audit.groups] == [("exact", pair)]
    assert audit.leaks["train"].exact == (pair[0],)
    first, second = (Image.open(io.BytesIO(index.read(index.ids.index(name)))).convert("RGB") for name in pair)
    again = Image.open(io.BytesIO(encoded(first, quality=50)))
    assert imagehash.phash(again) - imagehash.phash(second) <= NEAR_DISTANCE
    levels = [compared_levels(np.asarray(image))[None] for image in (again, second)]
    assert likeness(*levels)[0] >= MIN_LIKENESS


def test_exact_copies_in_real_images_equal_those_found_by_comparing_pixels(shared_mini):
    from keras_bench.data.tiny_imagenet import open_tiny_imagenet

    index = open_tiny_imagenet(shared_mini, Log())
    store = ImageStore(index, 0)
    splits = split_images(index, DatasetConfig(), np.ones(len(index.ids), dtype=bool))
    audit = audit_images(index, splits, store, "f", Log())
    by_pixels = {}
    for i in range(len(index.ids)):
        by_pixels.setdefault(np.asarray(Image.open(io.BytesIO(index.read(i))).convert("RGB")).tobytes(), []).append(i)
    assert audit.exact_groups == sum(len(members) > 1 for members in by_pixels.values())
    assert audit.images == 1200
