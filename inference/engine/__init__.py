"""Prediction in memory: tensors in, class probabilities or labels out."""
