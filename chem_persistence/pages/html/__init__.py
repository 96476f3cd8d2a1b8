"""HTML that is always escaped, and the assets of a page."""
