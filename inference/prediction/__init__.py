"""The command se_predict: image files in, segmentation files out."""
