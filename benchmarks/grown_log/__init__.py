"""A log of a million flows of many kinds, and the time that each question takes there."""
