"""Writes files and folders durably, reads CSV tables, reads pickles without executing them, and reports progress."""
