"""The sections of a page, each a function from a view of a flow to HTML."""
