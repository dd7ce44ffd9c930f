"""A viewer of three linked planes through an image and its labels, which a page holds whole: data, script and style."""
