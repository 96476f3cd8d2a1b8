"""Parameters that are set after a flow was built, and flows whose parameters the log has."""
