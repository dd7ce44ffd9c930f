"""Programs that show, measure and compare; each folder is one subject."""
