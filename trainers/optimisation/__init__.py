"""Optimisation steps: loss, optimiser, precision, checkpoints and distributed training."""
