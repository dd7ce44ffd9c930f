"""Datasets as users have them: descriptions, cases, labels, validation and folds."""
