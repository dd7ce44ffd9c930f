"""Image formats: one module for each library, with the checks of its headers, and a registry by file ending."""
