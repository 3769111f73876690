"""HTML pages that open from the disk: templates with one base and one style, charts, and the 3D viewer."""
