"""Geometry of images: affines, orientation, cropping and resampled grids."""
