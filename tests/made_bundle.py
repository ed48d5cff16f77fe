"""Bundles made by hand, with a model computable by hand: softmax of mean colour times a matrix."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from keras_bench.config import DatasetConfig
from keras_bench.export.files import write_labels, write_samples, write_sums
from keras_bench.export.runner import write_runner

NAMES = ["red", "green", "<b>blue</b>, \x1b[31mcielo"]
MATRIX = np.array([[3.0, -1.0, 0.0], [0.0, 2.0, -1.0], [-2.0, 0.0, 4.0]], dtype=np.float32)


def expected(pixels):
    logits = pixels.reshape(-1, 3).mean(axis=0) / 255 @ MATRIX
    return np.exp(logits) / np.exp(logits).sum()


def tiny_model(names, opset=18, output="probabilities"):
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "full"], ["share"]),
        helper.make_node("MatMul", ["share", "matrix"], ["scores"]),
        helper.make_node("Softmax", ["scores"], [output], axis=1),
    ]
    constants = {"axes": np.array([1, 2]), "full": np.float32(255), "matrix": MATRIX}
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", "height", "width", 3])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    model.metadata_props.add(key="class_names", value=json.dumps(names))
    return model


def picture(seed, width=20, height=12):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


def make_bundle(folder: Path) -> Path:
    """Write a bundle with all files but model.int8.onnx."""
    folder.mkdir()
    onnx.save(tiny_model(NAMES), folder / "model.onnx")
    write_labels(folder, NAMES, NAMES)
    images = [picture(0), picture(1, 9, 30)]
    write_samples(folder, images, {"model.onnx": np.stack([expected(image) for image in images])}, NAMES[:2])
    write_runner(folder)
    data = {"dataset": DatasetConfig(source="folder").model_dump(mode="json"), "fingerprint": "f", "test_images": 2}
    agreement = {"images": 2, "onnx_top1": {"value": 1.0}}
    (folder / "verification.json").write_text(json.dumps({"data": data, "agreement": agreement}))
    (folder / "MODEL_CARD.md").write_text("A card.\n")
    write_sums(folder)
    return folder
