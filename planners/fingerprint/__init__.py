"""Measure the fingerprint of a dataset: shapes, spacings, intensities and sizes of structures."""
