"""Filters of photos by folder, time, place, columns and parts of their names."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras_retrieval.pipelines.files.stored_path import normal

from keras_retrieval.errors import ArgumentError

from ..index_contract.conditions import IN, Condition, parse_conditions
from ..index_contract.photo_time import time_span
from .catalogue import Catalogue
from .errors import BadRequestError

COLUMN = "column."  # prefix of parameters that name a column


@dataclass(frozen=True)
class PhotoFilter:
    """Conditions that photos must satisfy, all of them.

    Attributes:
        folder: folder that contains the photo, directly or in a sub-folder; "" for all.
        after: earliest time in seconds since 1970; None for no limit. Photos without a time do not satisfy it.
        before: first time that is too late; None for no limit.
        area: south, west, north and east in degrees; west > east crosses the antimeridian. None for no limit.
        columns: conditions that a column has one of some values.
        where: further conditions on columns.
        text: part of the name, without regard to case; "" for all.
        searchable: whether only photos of the index satisfy the filter.
    """

    folder: str = ""
    after: float | None = None
    before: float | None = None
    area: tuple[float, float, float, float] | None = None
    columns: tuple[Condition, ...] = ()
    where: tuple[Condition, ...] = ()
    text: str = ""
    searchable: bool = False

    @property
    def restricts(self) -> bool:
        """Whether there is any condition, apart from `searchable`."""
        return self != PhotoFilter(searchable=self.searchable)

    def rows(self, catalogue: Catalogue) -> np.ndarray:
        """Finds the photos that satisfy the filter.

        Returns:
            Their row numbers in the catalogue, ascending.

        Raises:
            BadRequestError: a condition does not fit the columns of the catalogue.
        """
        mask = catalogue.searchable.copy() if self.searchable else np.ones(len(catalogue), bool)
        if self.folder:
            folders, codes = catalogue.folders
            below = f"{self.folder}/"
            mask &= np.array([name == self.folder or name.startswith(below) for name in folders], bool)[codes]
        if self.after is not None:
            mask &= catalogue.times >= self.after
        if self.before is not None:
            mask &= catalogue.times < self.before
        if self.area is not None:
            mask &= inside(self.area, catalogue.latitude, catalogue.longitude)
        named = [(f"{COLUMN}{condition.column}", condition) for condition in self.columns]
        for name, condition in [*named, *(("where", condition) for condition in self.where)]:
            try:
                mask &= catalogue.matches(condition)
            except ArgumentError as error:
                raise BadRequestError(f"{name}: {error}.") from error
        rows = np.flatnonzero(mask)
        if self.text:
            part, names = normal(self.text).casefold(), catalogue.lower_names
            rows = np.array([row for row in rows.tolist() if part in names[row]], np.int64)
        return rows


def inside(area: tuple[float, float, float, float], latitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Returns whether positions are in an area: south, west, north and east in degrees, west > east allowed."""
    south, west, north, east = area
    within = (latitude >= south) & (latitude <= north)
    if west <= east:
        return within & (longitude >= west) & (longitude <= east)
    return within & ((longitude >= west) | (longitude <= east))


def filter_from_query(parameters: Mapping[str, Sequence[str]]) -> PhotoFilter:
    """Reads a filter from the parameters of a URL.

    Args:
        parameters: values by name: folder, after, before, area ("south,west,north,east"), text, searchable (0 or 1),
            and column.NAME and where (a condition), which may be repeated. Others are ignored.

    Raises:
        BadRequestError: a value has the wrong form; the message names the parameter.
    """

    def last(name: str) -> str:
        return parameters[name][-1] if parameters.get(name) else ""

    area = last("area")
    return _filter(
        folder=last("folder"),
        after=last("after"),
        before=last("before"),
        area=area.split(",") if area else None,
        columns={
            name.removeprefix(COLUMN): list(values) for name, values in parameters.items() if name.startswith(COLUMN)
        },
        conditions=parameters.get("where", ()),
        text=last("text"),
        searchable=flag(last("searchable"), "searchable"),
        where=lambda name: name,
    )


def filter_from_document(document: Any) -> PhotoFilter:
    """Reads a filter from the field "filter" of a search.

    Args:
        document: object with any of the fields folder, after, before, area (four numbers), columns (object of lists of
            strings), where (list of conditions, as of `search --where`) and text; None for no filter.

    Raises:
        BadRequestError: a field is unknown or has the wrong type; the message names it.
    """
    if document is None:
        return PhotoFilter()
    if not isinstance(document, dict):
        raise BadRequestError("filter must be an object.")
    known = {"folder": str, "after": str, "before": str, "area": list, "columns": dict, "where": list, "text": str}
    for name, value in document.items():
        if name not in known:
            raise BadRequestError(f"filter has no field {name!r}; its fields: {', '.join(known)}.")
        if value is not None and not isinstance(value, known[name]):
            kind = {str: "a string", list: "a list of four numbers", dict: "an object of lists of strings"}[known[name]]
            kind = "a list of conditions" if name == "where" else kind
            raise BadRequestError(f"filter.{name} must be {kind}.")
    columns = document.get("columns") or {}
    for column, values in columns.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise BadRequestError(f"filter.columns.{column} must be a list of strings.")
    conditions = document.get("where") or []
    if not all(isinstance(text, str) for text in conditions):
        raise BadRequestError("filter.where must be a list of conditions.")
    return _filter(
        folder=document.get("folder") or "",
        after=document.get("after") or "",
        before=document.get("before") or "",
        area=document.get("area"),
        columns=columns,
        conditions=conditions,
        text=document.get("text") or "",
        searchable=False,
        where=lambda name: f"filter.{name}",
    )


def flag(text: str, name: str) -> bool:
    """Reads a parameter that is 0 or 1; "" counts as 0.

    Raises:
        BadRequestError: the text is something else.
    """
    if text not in ("", "0", "1"):
        raise BadRequestError(f"{name} must be 0 or 1, got {text!r}.")
    return text == "1"


def _filter(
    *,
    folder: str,
    after: str,
    before: str,
    area: Sequence[Any] | None,
    columns: Mapping[str, Sequence[str]],
    conditions: Sequence[str],
    text: str,
    searchable: bool,
    where: Callable[[str], str],
) -> PhotoFilter:
    spans = {}
    for name, value in (("after", after), ("before", before)):
        spans[name] = time_span(value) if value else None
        if value and spans[name] is None:
            raise BadRequestError(f"{where(name)} must be a date or time such as 2017-07-18, got {value!r}.")
    try:
        parsed = parse_conditions(conditions)
    except ArgumentError as error:
        raise BadRequestError(f"{where('where')}: {error}.") from error
    try:
        accepted = [Condition(column, IN, tuple(values)) for column, values in sorted(columns.items())]
    except ArgumentError as error:
        raise BadRequestError(f"{where('columns')}: {error}.") from error
    return PhotoFilter(
        folder.strip("/"),
        spans["after"][0] if spans["after"] else None,
        spans["before"][1] if spans["before"] else None,
        None if area is None else _area(area, where("area")),
        tuple(accepted),
        tuple(parsed),
        text,
        searchable,
    )


def _area(parts: Sequence[Any], name: str) -> tuple[float, float, float, float] | None:
    try:
        south, west, north, east = (float(part) for part in parts if not isinstance(part, bool))
    except (TypeError, ValueError, OverflowError):
        raise BadRequestError(f"{name} must be four numbers: south, west, north, east in degrees.") from None
    if not all(map(math.isfinite, (south, west, north, east))) or south > north:
        raise BadRequestError(f"{name} must be four finite numbers, with south at most north.")
    if east - west >= 360:
        west, east = -180.0, 180.0
    return south, _wrapped(west), north, _wrapped(east)


def _wrapped(longitude: float) -> float:
    return longitude if abs(longitude) <= 180 else (longitude + 180) % 360 - 180
