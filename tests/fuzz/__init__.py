"""Damaged files for everything that reads one; see `test_fuzz`."""
