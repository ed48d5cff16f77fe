"""Fits one phase: optimizer and schedule, callbacks, resume."""
