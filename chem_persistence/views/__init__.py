"""What a flow looks like, on no device: attempts, time scale, wording and event lines."""
