"""The index in a collection of Milvus."""
