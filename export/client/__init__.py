"""Clients of a server; the steps describe and query."""
