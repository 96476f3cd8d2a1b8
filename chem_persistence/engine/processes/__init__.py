"""The child processes in which steps of foreign code run."""
