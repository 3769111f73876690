"""The interface of a served network: signatures, sample photos, the manifest of a version."""
