"""The 3D viewer of reconstruction pages: viewer.js and three.js, bundled by build.sh into viewer.min.js."""

from importlib import resources


def viewer_script() -> str:
    """The viewer's JavaScript, to be put into a page; "" where the file is not installed."""
    from markupsafe import Markup

    script = resources.files(__package__) / "viewer.min.js"
    return Markup(script.read_text(encoding="utf-8")) if script.is_file() else ""
