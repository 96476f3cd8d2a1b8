"""Steps: what a flow consists of, how their types are read, and whether they fit together."""
