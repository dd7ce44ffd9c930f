"""Programs that compare planning, training and prediction with nnU-Net."""
