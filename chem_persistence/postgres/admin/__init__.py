"""Administration: roles, status, doctor."""
