"""Previews of artifacts: text, images and molecules."""
