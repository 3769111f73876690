"""Writes files and folders durably, reads CSV tables, and reports progress."""
