"""Frozen values that pass between rooms, one small module a stage. NumPy is the heaviest thing they know."""
