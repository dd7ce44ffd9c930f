"""Programs that compare trained networks."""
