"""What a flow looks like, on any device: attempts, time scale, wording and event lines."""
