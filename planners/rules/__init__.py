"""Planning rules, one in each file."""
