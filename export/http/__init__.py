"""An HTTP server with limits, its requests and responses, and what all responses share: base path, gzip and ETags."""
