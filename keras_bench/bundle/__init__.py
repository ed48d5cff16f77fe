"""Verifies and runs exported bundles; every bundle carries these modules as its predict.py."""
