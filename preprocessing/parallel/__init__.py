"""Cases processed side by side, in local processes or on a cluster."""
