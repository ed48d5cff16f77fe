"""The order in which things happen: one run, a suite, a plan."""
