"""Inject hundreds of faults into running commands; `__main__` describes them."""
