"""Layers and memory settings tuned to CPUs."""
