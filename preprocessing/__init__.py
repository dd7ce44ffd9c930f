"""Images to arrays and back: files, geometry, validation, cropping, normalisation, resampling, the store of prepared cases."""
