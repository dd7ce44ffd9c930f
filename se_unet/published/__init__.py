"""Published networks of Wimmer et al. (2023) and their layers."""
