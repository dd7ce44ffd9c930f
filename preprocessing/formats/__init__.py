"""Image formats, one library per file, each with the checks of its headers."""
