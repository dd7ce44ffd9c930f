"""Layers of the scale-equivariant networks."""
