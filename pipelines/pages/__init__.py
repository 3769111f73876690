"""Makes self-contained HTML pages from templates, with line charts, rankings of photos and a 3D viewer."""
