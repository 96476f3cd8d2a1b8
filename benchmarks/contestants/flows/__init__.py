"""What runs whole flows of trivial steps: this library's worker and engine, and their lines."""
