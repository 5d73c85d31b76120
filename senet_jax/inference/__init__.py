"""A trained network, asked: what it sees in images, why, and how well it does on a split."""
