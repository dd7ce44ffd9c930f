"""Rules for the networks: sizes and channels of each family."""
