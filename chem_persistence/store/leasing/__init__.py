"""How flows are given to workers, held by them under leases, and appended to by their holders."""
