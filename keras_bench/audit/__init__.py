"""Looks through a data set before training: damage, duplicates, balance."""
