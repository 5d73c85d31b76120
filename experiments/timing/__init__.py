"""Races between programs, from which the tables of speed come."""
