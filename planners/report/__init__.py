"""The planning report: an HTML page with the data, the plan drawn over a case, the reasons of all decisions, and warnings."""
