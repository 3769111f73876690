"""Training tuples from 3D models, folders, tables, positions or descriptors; the step tuples."""
