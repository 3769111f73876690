"""The interface of a served network: names of its signatures, the check of its manifest, and synthetic photos."""
