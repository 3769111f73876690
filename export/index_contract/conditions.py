"""Conditions on the columns of photos, and the grammar in which users write them.

A condition is one line:

    COLUMN = VALUE               also: COLUMN != VALUE
    COLUMN >= VALUE              also: > < <=, for numbers and times
    COLUMN in VALUE, VALUE, ..   any of the values; also: COLUMN not in ..
    COLUMN all VALUE, VALUE, ..  a list that contains all of the values; also: COLUMN not all ..
    COLUMN empty                 no value; also: COLUMN not empty

A list of texts equals each text that it contains. A time equals the times within it: `time = 2017-07` is true all July,
`time <= 2017` until the end of the year. A photo without a value satisfies !=, `not in`, `not all` and `empty` only. A
name or a value is a JSON string in quotation marks if it has blanks at its ends, a comma in a list, or an operator in
it. The column `photo` is the name of the photo. All conditions of a search must hold, except that several with = on one
column are alternatives.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from keras_retrieval.errors import ArgumentError, printable

from .column_types import NOUNS, NUMBER, TEXT, TEXTS, TIME, number_of, texts_of, type_of
from .photo_time import time_span

PHOTO_COLUMN = "photo"
"""Reserved column name, in column tables and in conditions, for the name of the photo itself."""

IN, ALL, EMPTY = "in", "all", "empty"
RANGES = ("<", "<=", ">", ">=")
MOST_CONDITIONS, MOST_VALUES = 100, 10_000
LONGEST_SHOWN = 60  # characters of a part of a condition in a message, so that requests are not repeated in full

_STRING = r'"(?:[^"\\]|\\.)*"'
# A column ends before an operator, or not with a blank, so that long lines take time in proportion to their length.
_SYMBOL = re.compile(rf"(?P<column>{_STRING}\s*|[^\"=<>!]+)(?P<operator><=|>=|!=|==?|<|>)(?P<value>.*)", re.DOTALL)
_WORD = re.compile(
    rf"(?P<column>{_STRING}|[^\"]*?[^\"\s])\s+(?P<negated>not\s+)?(?:(?P<operator>in|all)\s+(?P<values>.+)|empty)",
    re.DOTALL,
)
_WORDS = re.compile(r"(?i)(^|\s)(not|in|all|empty)(\s|$)")
_PARTS = re.compile(rf'{_STRING}|[^",]+|,', re.DOTALL)


@dataclass(frozen=True)
class Condition:
    """A condition on one column.

    Attributes:
        column: name of the column, or `PHOTO_COLUMN`.
        operator: `IN`, `ALL`, `EMPTY` or one of `RANGES`.
        values: the values to compare with: none for `EMPTY`, one for a range.
        negated: whether photos that do not satisfy the condition are wanted; never for a range.

    Raises:
        ArgumentError: an attribute has another form.
    """

    column: str
    operator: str
    values: tuple[str, ...] = ()
    negated: bool = False

    def __post_init__(self) -> None:
        counts = {EMPTY: len(self.values) == 0, IN: True, ALL: len(self.values) > 0}
        if not counts.get(self.operator, self.operator in RANGES and len(self.values) == 1 and not self.negated):
            raise ArgumentError(f"{shown(str(self))}: the operator or the number of its values is wrong")
        if len(self.values) > MOST_VALUES:
            raise ArgumentError(f"a condition on '{shown(self.column)}' has more than {MOST_VALUES:,} values")

    def __str__(self) -> str:
        """Returns the condition in the grammar of this module."""
        words = [_quoted(self.column), *(["not"] if self.negated else []), self.operator]
        return " ".join([*words, ", ".join(map(_quoted, self.values))]).rstrip()

    def check(self, facts: Mapping[str, Any]) -> None:
        """Checks that the condition fits a column of an index.

        Args:
            facts: metadata of the index, `NeighbourIndex.facts`.

        Raises:
            ArgumentError: the index has no such column, the operator is not for columns of its type, or a value is not
                of the type.
        """
        if self.column != PHOTO_COLUMN and self.column not in facts["columns"]:
            listed = ", ".join(facts["columns"]) or "none"
            raise ArgumentError(f"the index has no column '{shown(self.column)}'; its columns: {listed}")
        line = shown(str(self))
        kind = TEXT if self.column == PHOTO_COLUMN else type_of(facts, self.column)
        if self.operator in RANGES and kind not in (NUMBER, TIME):
            raise ArgumentError(
                f"'{line}': {self.operator} is for numbers and times, and '{self.column}' is {NOUNS[kind]}: index "
                f"again with --types {self.column}=number"
            )
        if self.operator == ALL and kind != TEXTS:
            raise ArgumentError(f"'{line}': all is for lists, and '{self.column}' is {NOUNS[kind]}: use in")
        if self.operator in RANGES and not self.values[0]:
            raise ArgumentError(f"'{line}': {self.operator} needs a value; photos without one satisfy 'COLUMN empty'")
        for value in self.values:
            if value and not _is_of(kind, value):
                raise ArgumentError(f"'{line}': '{self.column}' is {NOUNS[kind]}, got {shown(value)}")

    def matches(self, column: "ColumnValues") -> np.ndarray:
        """Evaluates the condition for values of a column; values to compare with that are not of its type match none.

        Args:
            column: n values of the column.

        Returns:
            Whether each value satisfies the condition, (n,) bool.
        """
        found = column.empty if self.operator == EMPTY else self._matches(column)
        return ~found if self.negated else found

    def _matches(self, column: "ColumnValues") -> np.ndarray:
        found = np.zeros(len(column.texts), bool)
        if column.kind in (NUMBER, TIME):
            for value in self.values:
                if not value:
                    found |= column.empty
                elif _is_of(column.kind, value):
                    found |= self._holds(column.numbers, *span_of(column.kind, value))
            return found
        wanted = set(self.values)
        if column.kind == TEXTS:
            test = wanted.issubset if self.operator == ALL else lambda texts: not wanted.isdisjoint(texts)
            found |= np.fromiter(map(test, column.lists), bool, len(found))
            return found | column.empty if "" in wanted and self.operator == IN else found
        return np.fromiter(map(wanted.__contains__, column.texts), bool, len(found))

    def _holds(self, numbers: np.ndarray, first: float, after: float) -> np.ndarray:
        """Whether numbers satisfy the condition with a value that lasts from `first` to before `after`."""
        point = first == after
        if self.operator == IN:
            return numbers == first if point else (numbers >= first) & (numbers < after)
        if self.operator == "<=":
            return numbers <= first if point else numbers < after
        if self.operator == ">":
            return numbers > first if point else numbers >= after
        return numbers < first if self.operator == "<" else numbers >= first


class ColumnValues:
    """Values of a column, as an index stores them, which are parsed at most once.

    Args:
        kind: the type of the column.
        texts: n values.
    """

    def __init__(self, kind: str, texts: Sequence[str]) -> None:
        self.kind, self.texts = kind, texts

    @cached_property
    def empty(self) -> np.ndarray:
        """Which photos have no value, (n,) bool."""
        return np.fromiter((not text for text in self.texts), bool, len(self.texts))

    @cached_property
    def numbers(self) -> np.ndarray:
        """The numbers by which values are ordered, (n,) float64; NaN without a value."""
        return np.fromiter((number_of(self.kind, text) for text in self.texts), np.float64, len(self.texts))

    @cached_property
    def lists(self) -> list[list[str]]:
        """The texts in each list."""
        return [texts_of(self.kind, text) for text in self.texts]


def span_of(kind: str, value: str) -> tuple[float, float]:
    """Returns the first number of a value of a condition, and the first after it: both the same unless it is a time.

    Raises:
        ValueError: the value is not of the type `kind`.
    """
    if kind == TIME:
        span = time_span(value)
        if span is None:
            raise ArgumentError(f"{shown(value)} is not a time")
        return span
    return float(value), float(value)


def parse_conditions(texts: Iterable[str]) -> list[Condition]:
    """Parses conditions; see the module for their grammar.

    Args:
        texts: one or more conditions each, on lines of their own. Empty lines are left out.

    Returns:
        The conditions. Those with = on the same column are joined to one with several values.

    Raises:
        ArgumentError: a line is not a condition, or there are more than 100.
    """
    lines = [line.strip() for text in texts for line in text.split("\n") if line.strip()]
    if len(lines) > MOST_CONDITIONS:
        raise ArgumentError(f"a search has at most {MOST_CONDITIONS} conditions, got {len(lines)}")
    equal: dict[str, tuple[str, ...]] = {}
    others = []
    for line in lines:
        condition, is_equality = _parse(line)
        if is_equality:
            equal[condition.column] = equal.get(condition.column, ()) + condition.values
        else:
            others.append(condition)
    return [Condition(column, IN, values) for column, values in equal.items()] + others


def shown(text: str) -> str:
    """Returns a part of a condition for a message: a text of over 60 characters without its middle."""
    return printable(text if len(text) <= LONGEST_SHOWN else f"{text[:40]} .. {text[-16:]}")


def _parse(line: str) -> tuple[Condition, bool]:
    if found := _SYMBOL.fullmatch(line):
        column, operator = _unquoted(found["column"].strip()), found["operator"]
        value = _unquoted(found["value"].strip())
        if operator in RANGES:
            return Condition(column, operator, (value,)), False
        return Condition(column, IN, (value,), operator == "!="), operator in ("=", "==")
    if found := _WORD.fullmatch(line):
        values = () if found["operator"] is None else _values(found["values"])
        return Condition(_unquoted(found["column"]), found["operator"] or EMPTY, values, bool(found["negated"])), False
    raise ArgumentError(
        f"{shown(line)} is not a condition: write 'year >= 2010', 'city = Paris', 'city in Paris, Rome', 'tags all "
        "red, round' or 'city empty'"
    )


def _values(text: str) -> tuple[str, ...]:
    parts = _PARTS.findall(text)
    if "".join(parts) != text:
        raise ArgumentError(f"{shown(text)}: a quotation mark is not closed")
    values, value = [], ""
    for part in [*parts, ","]:
        if part == ",":
            values.append(_unquoted(value.strip()))
            value = ""
        else:
            value += part
    return tuple(values)


def _unquoted(text: str) -> str:
    if not re.fullmatch(_STRING, text, re.DOTALL):
        return text
    try:
        return str(json.loads(text, strict=False))
    except ValueError:
        raise ArgumentError(f"{shown(text)} is not a JSON string") from None


def _quoted(text: str) -> str:
    plain = text and text == text.strip() and not re.search(r'["=<>!,\n]', text) and not _WORDS.search(text)
    return text if plain else json.dumps(text, ensure_ascii=False)


def _is_of(kind: str, value: str) -> bool:
    if kind == TIME:
        return time_span(value) is not None
    if kind == NUMBER:
        try:
            return bool(np.isfinite(float(value)))
        except ValueError:
            return False
    return True
