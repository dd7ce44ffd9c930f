"""Networks that nnU-Net 2 trained, in our terms: their description, their weights, their checkpoints."""
