"""The server: HTTP, gRPC, model versions, batching, the search page; the step serve."""
