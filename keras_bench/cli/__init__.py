"""The command line: one module per verb, with its options, its help and its handler."""
