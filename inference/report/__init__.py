"""The report on trained models: one self-contained page for a model, and one that sets several side by side."""
