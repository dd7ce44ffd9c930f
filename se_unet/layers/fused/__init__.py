"""Kernels for GPUs that do the work of several of PyTorch's operators with one pass over a map."""
