"""What happens to anatomy of another size: planned ranges, the search of the size, robustness, and equivariance."""
