"""The training chain behind the search page, and the demo: steps that run as child processes."""
