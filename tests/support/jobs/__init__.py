"""Steps with batch jobs, and a queue that behaves as badly as a test says."""
