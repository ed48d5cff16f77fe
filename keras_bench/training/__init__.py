"""Trains one phase: optimizer and schedule, losses, callbacks, cached features, resuming."""
