"""The interface of a served network: its signatures, the manifest of a version, and synthetic photos."""
