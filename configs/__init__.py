"""The shared vocabulary: typed settings and plans, JSON in and out, presets. Imports neither torch nor numpy."""
