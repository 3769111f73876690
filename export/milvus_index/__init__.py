"""An index in a collection on a Milvus server, or in a file of milvus-lite."""
