"""Find the size of the anatomy in an image, and tell how good a segmentation is expected to be."""
