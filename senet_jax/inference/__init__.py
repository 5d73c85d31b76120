"""A trained network, asked."""
