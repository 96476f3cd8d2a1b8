"""The commands that seal flows, and archive them."""
