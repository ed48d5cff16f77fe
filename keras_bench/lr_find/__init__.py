"""The verb `lr-find`: searches for a good learning rate for a phase."""
