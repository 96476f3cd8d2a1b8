"""What a store offers to those that carry flows to another store, event by event."""
