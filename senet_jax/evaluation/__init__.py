"""A split, scored."""
