"""The demonstration and its phantoms."""
