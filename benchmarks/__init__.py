"""Programs that show and measure: the demo and its phantoms, and `measure_*.py`, each of which prints one table."""
