"""Layers and memory handling tuned to CPUs."""
