"""An HTTP server with limits, which requests it answers, and what all responses share: base path, gzip and ETags."""
