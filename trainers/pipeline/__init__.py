"""The whole way from a dataset to a shared model: what fits into the time, each stage by the public function of its command, one page."""
