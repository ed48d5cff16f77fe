"""What a run is and where it lies: job, data, weights, folders, fingerprints."""
