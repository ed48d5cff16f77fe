"""Averages finished runs."""
