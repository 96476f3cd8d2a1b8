"""What an append costs each node of a cluster."""
