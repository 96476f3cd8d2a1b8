"""Bundles: flows as one file, which can be verified and imported elsewhere."""
