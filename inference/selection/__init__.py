"""After cross-validation: which model, checkpoint, ensemble and postprocessing to predict with."""
