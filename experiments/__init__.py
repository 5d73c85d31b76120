"""Ablation studies: `run` trains a grid, `report` turns its results into the paper's table."""
