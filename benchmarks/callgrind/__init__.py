"""What callgrind counts."""
