"""The closed table of backbones and what is known of each. No TensorFlow."""

from keras_bench.backbones.table import BACKBONES, Backbone, Family, Normalization

__all__ = ["BACKBONES", "Backbone", "Family", "Normalization"]
