"""The 3D viewer of the pages that `keras-retrieval reconstruct` writes.

The script build.sh bundles viewer.js and the library three.js into viewer.min.js.
"""

from importlib import resources


def viewer_script() -> str:
    """Returns the JavaScript of the viewer for a page, marked as safe HTML; "" if viewer.min.js is not installed."""
    from markupsafe import Markup

    script = resources.files(__package__) / "viewer.min.js"
    return Markup(script.read_text(encoding="utf-8")) if script.is_file() else ""
