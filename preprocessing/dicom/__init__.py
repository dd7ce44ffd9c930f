"""DICOM: find the series in a folder or ZIP file, refuse what is no whole volume, and read the others as images."""
