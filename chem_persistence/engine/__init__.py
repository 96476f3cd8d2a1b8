"""The engine: typed steps, the builder that checks how they fit, and what runs flows of them."""
