"""The fingerprint of a dataset: shapes, spacings, intensities and sizes of structures."""
