"""Layers of scale-equivariant networks."""
