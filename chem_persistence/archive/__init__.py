"""The end of a flow's life in a log: it is sealed, and then archived."""
