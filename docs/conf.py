"""Configuration of the documentation site: `make docs` builds it, strictly and without a network."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras_retrieval

project = "keras-retrieval"
author = "keras-retrieval developers"
copyright = "keras-retrieval developers, Apache-2.0"
version = release = keras_retrieval.__version__

extensions = [
    "myst_nb",  # loads myst_parser
    "sphinx_design",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "docs.extensions.commands",
    "docs.extensions.measured",
    "docs.extensions.tables",
    "docs.extensions.docstrings",
]
exclude_patterns = ["_build", "extensions", "__pycache__"]
templates_path: list[str] = []

myst_enable_extensions = ["colon_fence", "deflist", "attrs_block"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks show their stored results; tests/docs executes them
nb_merge_streams = True
smartquotes = False  # "--size" is an option, not a dash
default_role = "code"  # docstrings write `x` for code, as Markdown does

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
toc_object_entries_show_parents = "hide"
autodoc_default_options = {"members": True, "no-value": True}
autodoc_inherit_docstrings = False
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
napoleon_custom_sections = [
    "Input shape",
    "Output shape",
    ("Call arguments", "params_style"),
]

nitpicky = True
# Classes of other packages: their documentation lies in the network, and the build needs none.
nitpick_ignore_regex = [
    (r"py:.*", r"(np|numpy|keras|tf|tensorflow|collections|pathlib|typing|PIL|grpc|concurrent|contextlib|enum)\b.*"),
    (r"py:.*", r"(Path|Any|Callable|Iterable|Iterator|Sequence|Mapping|Collection|Literal|Protocol|ndarray|object)"),
    (r"py:.*", r"(int|float|str|bool|bytes|list|dict|tuple|set|None|type|slice)"),
    (r"py:.*", r"(\w+Error|Exception|KeyboardInterrupt)"),
    # Types named in signatures of the public API whose own modules are not.
    (r"py:.*", r"(keras_retrieval\.|\.)?[A-Za-z_.]*"),
]

html_theme = "pydata_sphinx_theme"
html_title = "keras-retrieval"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_theme_options = {
    "logo": {"text": "keras-retrieval"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars: dict[str, list[str]] = {
    "index": [],
    "quickstart": [],
    "troubleshooting": [],
    "faq": [],
    "architecture": [],
}
