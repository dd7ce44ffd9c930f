"""Process cases in parallel, in local processes or on a cluster."""
