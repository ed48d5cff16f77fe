"""The verb `ensemble`: averages finished runs."""
