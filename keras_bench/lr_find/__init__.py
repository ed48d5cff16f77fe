"""The verb `lr-find`: which learning rate a phase can bear."""
