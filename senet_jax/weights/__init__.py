"""Weights in timm's names, files and catalogue: read and written."""
