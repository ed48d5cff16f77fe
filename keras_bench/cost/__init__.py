"""The cost of a model: parameters, operations, latency, memory."""
