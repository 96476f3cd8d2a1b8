"""The explorer: a local web server on the flows, artifacts and workers of a log, read-only."""
