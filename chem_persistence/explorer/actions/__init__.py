"""The pages of the explorer that change flows, where the command allows it."""
