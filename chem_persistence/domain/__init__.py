"""Values and pure functions: nothing here awaits, reads a clock, makes an id or knows a store."""
