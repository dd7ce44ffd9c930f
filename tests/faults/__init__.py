"""Faults injected into the commands while they run, hundreds of them; see `__main__`."""
