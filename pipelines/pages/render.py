"""Renders HTML pages from Jinja templates, which share one base template and one style sheet.

The templates are in `templates/`, where `base.html.j2` is the only template with an `<html>` element. A page contains
its style sheet, images and scripts, and its content security policy forbids external resources.
"""

import base64
import io
from functools import cache
from importlib import resources
from typing import Any

from PIL import Image

_PICTURES_OF_CONTROLS = 0x2400  # U+2400 + n is the visible symbol of the control character n
_DELETE, _SYMBOL_OF_DELETE = 0x7F, 0x2421
# Characters that reorder the text after them: a name with one could show a false file type.
_REORDERING = (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)
_VISIBLE = (
    {code: chr(_PICTURES_OF_CONTROLS + code) for code in range(0x20)}
    | {_DELETE: chr(_SYMBOL_OF_DELETE)}
    | {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    | {code: f"\\u{code:04x}" for code in (*_REORDERING, *range(0xD800, 0xE000))}
)


def render(template: str, **values: Any) -> str:
    """Renders an HTML page from a template.

    Args:
        template: the name of a file in `templates/`, such as "rankings.html.j2".
        **values: the variables of the template. Text is escaped, unless it is a `markupsafe.Markup`. A variable that
            the template uses and the caller does not pass is an error.

    Returns:
        The HTML. Invisible characters in text values are replaced, see `visible`, so that the HTML can always be
        encoded as UTF-8.
    """
    return _environment().get_template(template).render(style=style(), **values)


def style() -> str:
    """Returns the style sheet of all pages, CSS marked as safe HTML."""
    from markupsafe import Markup

    return Markup((_folder() / "style.css").read_text(encoding="utf-8"))


def visible(text: str) -> str:
    """Replaces the invisible and misleading characters of a text.

    Control characters, characters that change the direction of the text, and lone surrogates, which cannot be encoded
    as UTF-8, are replaced by visible symbols or escape sequences. All other characters stay the same.
    """
    return text.translate(_VISIBLE)


def data_url(picture: Image.Image, form: str = "JPEG", quality: int = 80) -> str:
    """Encodes an image as a data URL, "data:image/jpeg;base64,..".

    Args:
        picture: the image, in mode RGB.
        form: the image format, "JPEG" or "PNG".
        quality: the JPEG quality in 1..95; PNG ignores it.
    """
    file = io.BytesIO()
    picture.save(file, form, quality=quality, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _folder() -> Any:
    return resources.files(__package__) / "templates"


@cache
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    return Environment(
        loader=FunctionLoader(lambda name: (_folder() / name).read_text(encoding="utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
    )


def _finalize(value: Any) -> Any:
    from markupsafe import Markup

    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value
