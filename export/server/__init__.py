"""The server (gRPC and HTTP, model versions, batching, search page), and the step serve."""
