"""Layers of the networks, a file per kind of layer; `slot.py` has the choices of SE blocks."""
