"""The weights that a training starts with: fresh ones, those of a previous model, or those of another dataset."""
