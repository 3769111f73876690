"""Exact search, query-time methods (query expansion, re-ranking) and diffusion on descriptors, in numpy."""
