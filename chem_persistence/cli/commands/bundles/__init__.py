"""The commands that take flows away, take them in, and verify what was taken away."""
