"""Configurations: programs that return a ConfigDict.

The argument changes structure, flags change values.
"""
