"""Comparisons of networks over long trainings: a queue that stops and goes on, learning curves and tables."""
