"""Spatial and intensity transforms of training patches."""
