"""The rules of the planner, one per file."""
