"""Searches for a good learning rate for a phase."""
