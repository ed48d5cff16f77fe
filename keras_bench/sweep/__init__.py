"""The verb `sweep`: plans, runs and compares the points of a sweep."""
