"""Import trained models of nnU-Net 2: a folder of results, or the ZIP file of its export."""
