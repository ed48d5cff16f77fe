"""What a model costs: parameters, operations, latency, memory."""
