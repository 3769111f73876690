"""The documentation: pages in Markdown, and extensions that make pages and tables from the code."""
