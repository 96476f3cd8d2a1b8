"""What programs ask of flows that workers run."""
