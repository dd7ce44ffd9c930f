"""The planning report: a page that shows the data, the plan drawn over it, every decision's sentence, and warnings."""
