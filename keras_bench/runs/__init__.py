"""What a run is and where it is stored: job, data, weights, folders, fingerprints."""
