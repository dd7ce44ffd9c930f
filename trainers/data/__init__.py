"""Make training batches from prepared cases."""
