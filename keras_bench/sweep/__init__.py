"""Plans, runs and compares the points of a sweep."""
