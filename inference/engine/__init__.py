"""Prediction in memory, from image tensors to class probabilities or labels."""
