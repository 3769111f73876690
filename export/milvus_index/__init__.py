"""The index in a Milvus collection."""
