"""Previews of artifacts."""
