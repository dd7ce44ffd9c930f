"""Damaged files for every reader of files; `test_fuzz` describes them."""
