"""DICOM in and out of prediction: series as cases, and segmentations as DICOM objects."""
