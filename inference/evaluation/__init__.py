"""The command se_evaluate: scores of segmentations, and of models at several sizes of the anatomy."""
