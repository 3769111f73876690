"""Numbers as people and spreadsheets write them: with a decimal point or comma, and with digits in groups of three."""

import re
from collections.abc import Iterable

from keras_retrieval.errors import RetrievalError

_UNMISTAKABLE = re.compile(r"[+-]?[0-9]+(?:\.(?:[0-9]{1,2}|[0-9]{4,}))?")
_PLAIN = re.compile(r"[+-]?(?:[0-9]+([.,][0-9]*)?|[.,][0-9]+)")
_POWER = re.compile(r"([+-]?[0-9]*(?:[.,]([0-9]*))?)[eE]([+-]?[0-9]{1,3})")
_SPACED = re.compile(r"[+-]?[0-9]{1,3}(?:[ \u00a0\u2009\u202f'\u2019][0-9]{3})+(?:[.,][0-9]*)?")
_GROUPED = {
    mark: re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:\{mark}[0-9]{{3}})+(?:\{other}[0-9]*)?")
    for mark, other in ((",", "."), (".", ","))
}
_SPACES = re.compile(r"[ \u00a0\u2009\u202f'\u2019]")


class NumberError(RetrievalError, ValueError):
    """A text is not a number, or may be either of two numbers."""


class NumberReader:
    """Reads the numbers of one table, all of which have the same decimal mark.

    A text such as 355,123 is a decimal number in one country and a whole number in another. The other numbers of the
    table decide: if any of them can only be read with a decimal comma, so is this one.

    Args:
        texts: the numbers of the table, from which the decimal mark is found.
        small: whether all numbers are below 1,000, so that no mark can group digits.
        resolution: the coarsest rounding of a number in scientific notation that is accepted.
    """

    def __init__(self, texts: Iterable[str], small: bool = False, resolution: float = 1.0) -> None:
        self._small, self._resolution = small, resolution
        marks = set() if small else {_decimal_mark(_cleaned(text)) for text in texts}
        self._marks = marks - {None}

    def read(self, text: str) -> float:
        """Reads a number.

        Raises:
            NumberError: the text is not a number, may be either of two numbers, or is rounded too much.
        """
        if _UNMISTAKABLE.fullmatch(text):
            return float(text)
        cleaned = _cleaned(text)
        power = _POWER.fullmatch(cleaned)
        if power and re.search("[0-9]", power[1]):
            rounding = float(f"1e{int(power[3]) - len(power[2] or '')}")  # infinite for a large exponent
            if rounding > self._resolution:
                raise NumberError(f"{text} is rounded to {rounding:g}: format the column as a number with all digits")
            return float(cleaned.replace(",", "."))
        if self._small:
            if not _PLAIN.fullmatch(cleaned):
                raise NumberError(f"{text!r} is not a number")
            return float(cleaned.replace(",", "."))
        return self._read_large(text, cleaned)

    def _read_large(self, text: str, cleaned: str) -> float:
        mark = _decimal_mark(cleaned)
        grouped = [group for group, pattern in _GROUPED.items() if pattern.fullmatch(cleaned)]
        if mark is None and grouped:  # one mark, and three digits after it
            if len(self._marks) == 1:
                mark = next(iter(self._marks))
            elif grouped == ["."] and not self._marks:
                mark = "."
            else:
                number = cleaned.replace(grouped[0], ".")
                raise NumberError(
                    f"{text} may be {number} or {cleaned.replace(grouped[0], '')}: write it without a mark between "
                    "thousands and with a decimal point"
                )
        plain = cleaned.replace("." if mark == "," else ",", "") if grouped and mark else cleaned
        if not _PLAIN.fullmatch(plain):
            raise NumberError(f"{text!r} is not a number")
        return float(plain.replace(",", "."))


def _cleaned(text: str) -> str:
    plain = text.strip().replace("\u2212", "-")
    return _SPACES.sub("", plain) if _SPACED.fullmatch(plain) else plain


def _decimal_mark(cleaned: str) -> str | None:
    """The decimal mark, where a number can be read in one way only; None for a whole or an ambiguous number."""
    if _UNMISTAKABLE.fullmatch(cleaned):
        return "." if "." in cleaned else None
    marks = [character for character in cleaned if character in ".,"]
    if not marks:
        return None
    grouped = [mark for mark, pattern in _GROUPED.items() if pattern.fullmatch(cleaned)]
    if not grouped:
        return marks[0] if _PLAIN.fullmatch(cleaned) else None
    if len(marks) == 1:
        return None
    return "," if grouped == ["."] else "."
