"""The logs that are written for a measurement, and the spread of what was measured."""
