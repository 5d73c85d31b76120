"""The studies: a table a file."""
