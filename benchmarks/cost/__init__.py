"""Programs that measure time, memory and size of layers, networks and commands."""
