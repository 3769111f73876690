"""Conditions: the grammar, and matches of every operator on every type against loops over the values."""

import math

import numpy as np
import pytest

from export.index_contract.column_types import NUMBER, TEXT, TEXTS, TIME, infer_type, number_text
from export.index_contract.conditions import (
    ALL,
    EMPTY,
    IN,
    MOST_CONDITIONS,
    RANGES,
    ColumnValues,
    Condition,
    parse_conditions,
)
from export.index_contract.contract import Filter, parse_where

FACTS = {"columns": ["city", "year", "day", "tags"], "column_types": {"year": NUMBER, "day": TIME, "tags": TEXTS}}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("city=Paris", [Condition("city", IN, ("Paris",))]),
        (" city == Paris ", [Condition("city", IN, ("Paris",))]),
        ("city=", [Condition("city", IN, ("",))]),
        ('city = " Paris = \\"x\\" "', [Condition("city", IN, (' Paris = "x" ',))]),
        ('"a < b" != c', [Condition("a < b", IN, ("c",), True)]),
        ("year >= 2010", [Condition("year", ">=", ("2010",))]),
        ("year<2010", [Condition("year", "<", ("2010",))]),
        ('city in Paris, "Rome, old", "line\\nbreak"', [Condition("city", IN, ("Paris", "Rome, old", "line\nbreak"))]),
        ("the city not in Paris", [Condition("the city", IN, ("Paris",), True)]),
        ("tags all red, round", [Condition("tags", ALL, ("red", "round"))]),
        ("tags not all red", [Condition("tags", ALL, ("red",), True)]),
        ("city empty", [Condition("city", EMPTY)]),
        ("city not empty", [Condition("city", EMPTY, (), True)]),
        ("city=a\ncity=b\n\nyear=1", [Condition("city", IN, ("a", "b")), Condition("year", IN, ("1",))]),
        ("photo = a/1.jpg", [Condition("photo", IN, ("a/1.jpg",))]),
        ('"built in" = 1', [Condition("built in", IN, ("1",))]),
        ('"is not" all all, "in", x', [Condition("is not", ALL, ("all", "in", "x"))]),
        ("", []),
    ],
)
def test_conditions_are_parsed_and_written(text, expected):
    assert parse_conditions([text]) == expected
    assert parse_conditions(map(str, expected)) == expected


@pytest.mark.parametrize(
    "text", ["city", "=x", "in Paris", "empty", 'city in "Paris', "city between 1, 2", "not year = 1 in"]
)
def test_what_is_no_condition_is_told(text):
    if text.startswith("not year"):
        assert parse_conditions([text]) == [Condition("not year", IN, ("1 in",))]  # a column may have any name
        return
    with pytest.raises(ValueError, match=r"is not a condition|is not closed"):
        parse_conditions([text])


@pytest.mark.parametrize("text", ["a{}b", "a{}", "a not{}b", "{}in", 'a{}"'])
def test_long_lines_take_no_longer_than_their_length(text):
    with pytest.raises(ValueError, match="is not a condition"):  # for hours, if blanks were tried in pairs
        parse_conditions([text.format(" " * 300_000 if " " not in text else " x " * 100_000)])


@pytest.mark.parametrize(
    "text", ["{}", "{} = 1", "day = {}", "city all {}", "city > {}", 'city in "{}', 'city = "\\x{}"']
)
def test_messages_do_not_repeat_long_conditions(text):
    with pytest.raises(ValueError, match=r" \.\. ") as caught:
        parse_where([text.format("é" * 1_000)]).check(FACTS)
    assert len(str(caught.value).encode()) < 400


def test_conditions_are_not_without_limit():
    with pytest.raises(ValueError, match=f"at most {MOST_CONDITIONS} conditions, got {MOST_CONDITIONS + 1}"):
        parse_conditions(["a != b"] * (MOST_CONDITIONS + 1))
    with pytest.raises(ValueError, match=r"more than 10,000 values"):
        parse_conditions(["a=b"] * 5 + ["a in " + ", ".join(map(str, range(10_001)))])
    for wrong in (("a", "~", ("b",)), ("a", "<", ("1", "2")), ("a", "<", ("1",), True), ("a", EMPTY, ("1",))):
        with pytest.raises(ValueError, match="the operator or the number of its values is wrong"):
            Condition(*wrong)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = red", "the index has no column 'colour'; its columns: city, year, day, tags"),
        ("city > Paris", "'city > Paris': > is for numbers and times, and 'city' is a text: index again with --types"),
        ("tags <= a", "<= is for numbers and times, and 'tags' is a list of texts"),
        ("city all a, b", "all is for lists, and 'city' is a text: use in"),
        ("year = x", "'year in x': 'year' is a number, got x"),
        ("year < nan", "'year' is a number, got nan"),
        ("year >=", "'year >= \"\"': >= needs a value; photos without one satisfy 'COLUMN empty'"),
        ("day >= 12", "'day' is a time such as .*, got 12"),
        ("photo > a", "> is for numbers and times, and 'photo' is a text"),
    ],
)
def test_conditions_that_do_not_fit_the_columns_are_told(text, message):
    where = parse_where([text])
    with pytest.raises(ValueError, match=message):
        where.check(FACTS)


def test_filters_that_fit_pass():
    where = parse_where(["year >= 2010", "day = 2017", "tags all a", "city in a, b", "photo != x", "year ="])
    where.check(FACTS)
    Filter(columns={"year": ["anything"]}).check(FACTS)
    assert parse_where([" ", "\n"]) is None


TEXT_VALUES = ["", "a", "b", "10", " a"]
NUMBERS = ["", "-3", "0", "2", "10", "2.5"]
DAYS = ["", "2016-12-31T23:59:59", "2017", "2017-01-01", "2017-07-18T10:30:00", "2017-12-31", "2018-01-01"]
LISTS = ["", '["a"]', '["a", "b"]', '["b", "c, d"]']


def holds(operator, values, negated, kind, text):
    """A condition by the definition of each operator, in plain Python."""
    if operator == EMPTY:
        return (text == "") != negated
    if kind == NUMBER and operator in RANGES:
        return text != "" and eval(f"{float(text)} {operator} {float(values[0])}")
    if kind == NUMBER:
        return (
            any((text == value == "") or (text and value and float(text) == float(value)) for value in values)
            != negated
        )
    if kind == TIME:
        year = text and int(text[:4])
        wanted = int(values[0])
        if operator in RANGES:
            return bool(text) and eval(f"{year} {operator} {wanted}")
        return (bool(text) and year == wanted) != negated
    found = {*([] if not text else eval(text) if kind == TEXTS else [text])} or {""}
    return ({*values} <= found if operator == ALL else bool(found & {*values})) != negated


@pytest.mark.parametrize(
    ("kind", "texts", "operator", "values"),
    [
        *((TEXT, TEXT_VALUES, IN, values) for values in (("a",), ("a", ""), ("10", "none"), ())),
        *((NUMBER, NUMBERS, operator, ("2",)) for operator in (*RANGES, IN)),
        *((NUMBER, NUMBERS, IN, values) for values in (("2.0", "10", ""), ("1",), ())),
        *((TIME, DAYS, operator, ("2017",)) for operator in (*RANGES, IN)),
        *((TEXTS, LISTS, operator, ("a", "b")) for operator in (IN, ALL)),
        *((TEXTS, LISTS, IN, values) for values in (("c, d",), ("", "a"), ())),
        *((kind, texts, EMPTY, ()) for kind, texts in ((TEXT, TEXT_VALUES), (NUMBER, NUMBERS), (TEXTS, LISTS))),
    ],
)
def test_matches_are_those_of_the_definition(kind, texts, operator, values):
    for negated in (False,) if operator in RANGES else (False, True):
        found = Condition("x", operator, values, negated).matches(ColumnValues(kind, texts))
        expected = [bool(holds(operator, values, negated, kind, text)) for text in texts]
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("number", [0, 7, -2.5, 1e16, 2.0**70, 1e-7, 1 / 3, 123456.789])
def test_numbers_are_read_as_written(number):
    text = number_text(number)
    assert float(text) == number
    assert not math.isnan(float(text))
    if 1e-3 < abs(number) < 1e15:
        assert infer_type([text]) == NUMBER
