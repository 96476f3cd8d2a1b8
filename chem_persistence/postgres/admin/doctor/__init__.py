"""What is wrong with a database, and what to type: one file a subject."""
