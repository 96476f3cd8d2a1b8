"""What the README's figures come from: loads, competitors, goals; `python -m benchmarks` runs them."""
