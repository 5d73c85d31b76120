"""Where a dataset lies and what it has, from its name on: splits, labels, class names, images."""
