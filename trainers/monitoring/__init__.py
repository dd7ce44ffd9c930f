"""Logs, pictures and validation of a training."""
