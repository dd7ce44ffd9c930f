"""Datasets on disk: descriptions, cases, labels, validation and folds."""
