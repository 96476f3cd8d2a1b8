"""The pages of the explorer that read."""
