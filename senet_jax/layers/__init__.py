"""Layers of the networks; one file a layer family."""
