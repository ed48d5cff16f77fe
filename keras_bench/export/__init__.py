"""ONNX bundles of finished runs: converted, checked against Keras, and quantised."""
