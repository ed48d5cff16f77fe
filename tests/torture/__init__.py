"""Kills real commands at every stage and at random moments, and compares what the same command makes of it."""
