"""The gRPC client of a server, and the steps describe and query."""
