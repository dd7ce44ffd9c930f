"""Programs that demonstrate, measure and compare. Each folder has one subject."""
