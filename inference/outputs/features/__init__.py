"""Shape and intensity of each label by the definitions that PyRadiomics documents, under its names."""
