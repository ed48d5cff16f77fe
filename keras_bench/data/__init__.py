"""From a source of images to tf.data: sources, store, splits, pipeline. All decoding is `keras_bench.images`'s."""
