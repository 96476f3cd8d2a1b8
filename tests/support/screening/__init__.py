"""The example that screens molecules, as tests and the torture compare its results."""
