"""From a finished model to numbers: predictions image by image, and the metrics computed from them."""
