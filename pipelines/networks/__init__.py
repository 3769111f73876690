"""Loads, saves and converts network files; the steps build and convert."""
