"""Steps whose work is a job of a batch queue, submitted once whatever dies."""
