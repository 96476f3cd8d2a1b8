"""What every store does, whatever keeps its data."""
