"""Running a flow that was given to workers: under a lease, which is renewed meanwhile."""
