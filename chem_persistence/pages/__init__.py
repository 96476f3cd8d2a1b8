"""Pages to look at: what a store holds, as HTML that asks nobody for anything."""
