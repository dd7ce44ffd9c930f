"""Colour pictures: PNG, JPEG and BMP files, and the rules for colours that TIFF files share."""
