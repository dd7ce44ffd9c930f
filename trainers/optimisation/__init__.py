"""Training step, loss, optimiser, precision, checkpoints and distributed training."""
