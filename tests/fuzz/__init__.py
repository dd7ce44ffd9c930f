"""Damaged and invented input for everything that reads a file; see `__main__`."""
