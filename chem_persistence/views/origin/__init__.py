"""Where a flow's results come from: programs, parameters, and the flows that it branched off."""
