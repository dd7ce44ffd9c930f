"""What is written beside a segmentation: previews, a viewer, statistics, features, expected quality, DICOM segmentations."""
