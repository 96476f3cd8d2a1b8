"""Results that are found again: the port that finds them, and whether a flow may take them over."""
