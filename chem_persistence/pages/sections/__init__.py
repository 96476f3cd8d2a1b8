"""The sections of a flow's page."""
