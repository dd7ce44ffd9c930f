"""Shared parts of the HTML reports: page style, figures as inline SVG, and tables of a plan."""
