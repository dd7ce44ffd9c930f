"""Logs, figures and validation of a training."""
