"""The search page: its HTTP API (photos, filters, searches, thumbnails) and its front end in `static/`."""
