"""The server (HTTP, gRPC, model versions, batching, search page), and the step serve."""
