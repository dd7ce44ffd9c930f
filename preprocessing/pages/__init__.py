"""What reports share: one look of page, figures as inline SVG, slices with outlines. Below all packages that write a report."""
