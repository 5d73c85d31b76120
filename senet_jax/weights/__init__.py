"""Weights in timm's names, files and catalogue, both ways."""
