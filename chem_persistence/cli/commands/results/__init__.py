"""The commands that read what flows produced: `results`, and those about artifacts."""
