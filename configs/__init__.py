"""Configurations: programs that return a ConfigDict.

A file's argument changes the structure of its configuration; flags change values.
"""
