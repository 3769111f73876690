"""Files and folders: durable writing, tables, pickles read without executing them, progress."""
