"""What a run prints: tables, the goals and whether they are met, and drawings."""
