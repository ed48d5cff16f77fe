"""Builds flat, self-normalising classification models from the backbone table and puts weights into them."""
