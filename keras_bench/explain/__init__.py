"""Explanation maps of a model's predictions, by tf-keras-vis, and checks of whether the maps can be trusted."""
