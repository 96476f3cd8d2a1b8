"""What became of flows: their state, failure, input, and the output of one of their steps."""
