"""Query-time methods by name: `parse` reads a text such as "dba:10,alphaqe:50:3,superglobal", `Ranker` applies it.

Query-time methods improve a search without training: database augmentation, query expansion, re-ranking and diffusion.
They take the neighbours of an image for matches. By default they use only likely matches (see `LikelyMatches`), and a
ranking begins as that by similarity does, up to the end of its first likely matches, or with its first three rows where
there are none, so that they do no harm where an object has few images; a number for n or neighbours takes that many, as
published.

This module defines the names of the methods, the order of their parameters and the defaults. The commands
`keras-retrieval evaluate` and `keras-retrieval search` accept the same text.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..errors import ArgumentError, RetrievalError
from .likely_matches import SAME, LikelyMatches
from .reranking import Graph, augment_database, diffusion, expand_queries, mutual_graph, nearest, rerank
from .rows import Advance, Database, count_rows
from .whole_ranking import count_passes, sort_all

Ranking: TypeAlias = tuple[np.ndarray, np.ndarray]
ShowProgress: TypeAlias = Callable[[str, int, str], AbstractContextManager[Advance]]
"""A function that shows the progress of an operation, given its label, the total count and the unit.

The function returns a context manager, which yields a function to call with the count of units done since its last
call.
"""

AUTO = "auto"
"""The value of a number of neighbours by which a method uses only likely matches; see `LikelyMatches`."""

METHODS: dict[str, tuple[tuple[str, int | float | str], ...]] = {
    "dba": (("n", AUTO), ("alpha", 3.0)),
    "rankdba": (("n", AUTO),),
    "alphaqe": (("n", AUTO), ("alpha", 3.0)),
    "aqe": (("n", AUTO),),
    "superglobal": (("first", 400), ("neighbours", AUTO), ("beta", 0.15)),
    "diffusion": (("truncate", 0), ("neighbours", AUTO), ("seeds", 10)),
}
"""The parameters of each query-time method, in order, as pairs of name and default.

The type of a value is that of the default; where the default is "auto", a value is "auto" or an integer.
"""

RECOMMENDED = "diffusion"
"""The methods for which the name "auto" stands."""

_MEANINGS = {
    "dba": "adds to each database row its n nearest other rows, weighted by similarity^alpha; must come first",
    "rankdba": "as dba, weighted by rank, from 1 down to 1 / n (Gordo et al. IJCV 2017: n = 20)",
    "alphaqe": "adds to the query its n nearest rows, weighted by similarity^alpha, and searches again "
    "(Radenovic et al. TPAMI 2018: n = 50)",
    "aqe": "as alphaqe, with equal weights (Chum et al. ICCV 2007)",
    "superglobal": "re-ranks the first rows by refined descriptors (Shao et al. ICCV 2023: neighbours = 9)",
    "diffusion": "ranks by diffusion on the neighbour graph, of the `truncate` first rows or, with 0, of all rows "
    "(Iscen et al. CVPR 2017: neighbours = 50)",
}

_NEIGHBOURS = {"superglobal": 9}  # with "auto", the number of nearest rows of which the likely matches are taken
_MOST = 50  # the same for the other methods
_KEPT = 3  # rows at the beginning of a ranking that stay where a query has no likely matches
_AUGMENTATIONS = ("dba", "rankdba")  # methods that change the database instead of a ranking
_DEEP = 8  # for k above 1/8 of the database, sorting all similarities once is faster than merging chunks


class MethodError(RetrievalError, ValueError):
    """A list of query-time methods has an unknown name, a wrong parameter, or a method without effect in this order."""


@dataclass(frozen=True)
class Step:
    """A query-time method with the values of its parameters, as made by `parse`.

    Attributes:
        method: the name of the method, a key of `METHODS`, such as "alphaqe".
        values: the values of all parameters of the method, in the order in which `METHODS` lists them.
    """

    method: str
    values: tuple[int | float | str, ...]

    def __str__(self) -> str:
        return ":".join([self.method, *map(_text, self.values)])

    @property
    def auto(self) -> bool:
        """Whether the method uses only likely matches."""
        return AUTO in self.values

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values as numbers; in place of "auto", the number of nearest rows of which likely matches are taken."""
        return tuple(_NEIGHBOURS.get(self.method, _MOST) if isinstance(value, str) else value for value in self.values)


def describe_methods() -> str:
    """Describes all query-time methods with their parameters and defaults in one line, for a help text."""
    forms = [(_form(method), meaning) for method, meaning in _MEANINGS.items()]
    forms += [
        (AUTO, f"{RECOMMENDED}, which gains most where an object has many images and does no harm where it has few")
    ]
    return "; ".join(f"{form}: {meaning}" for form, meaning in forms)


def parse(text: str) -> list[Step]:
    """Parses a list of query-time methods, such as "dba:10,alphaqe:50:3,diffusion".

    Methods are separated by commas. The values of a method's parameters follow its name after colons, in the order of
    `METHODS`; omitted values are the defaults of `METHODS`. The name "auto" stands for `RECOMMENDED`.

    Args:
        text: the list of methods; an empty text means a search without such methods.

    Returns:
        The methods with their values, in order; an empty list for an empty text.

    Raises:
        MethodError: a method is unknown, has too many values or an invalid value, augments the database but is not
            first, or makes a ranking that the next method discards.
    """
    parts = [part.strip() for part in text.split(",")] if text.strip() else []
    if parts == [AUTO]:
        parts = RECOMMENDED.split(",")
    steps = [_parsed(part) for part in parts]
    for number, (before, step) in enumerate(zip([None, *steps], steps, strict=False)):
        if step.method in _AUGMENTATIONS and number:
            raise MethodError(f"'{text}': {step.method} changes the database and must be the first method, once")
        if step.method == "diffusion" and before and before.method in ("superglobal", "diffusion"):
            raise MethodError(
                f"'{text}': diffusion makes a new ranking, so that {before.method} before it has no effect"
            )
    return steps


@contextmanager
def no_progress(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Shows no progress; the default where a function of the type `ShowProgress` is expected.

    Args:
        label: label of the operation, ignored.
        total: total count, ignored.
        unit: name of what is counted, ignored.
    """
    yield lambda count: None


class Ranker:
    """Ranks the rows of a database for queries with the given query-time methods.

    The constructor augments the database and builds the neighbour graph for diffusion, if the methods need these, so
    that several calls of `rank` share them.

    Args:
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D). The
            methods `dba` and `rankdba` make an augmented copy in memory.
        steps: the methods, in the order of application, from `parse`; empty for a search without such methods.
        progress: function that shows the progress of long operations; shows nothing by default.

    Raises:
        ArgumentError: a method needs the rows of the database in advance, and there are none.
        DescriptorError: a method needs the rows of the database in advance, and a row contains NaN or an infinite
            number.
    """

    def __init__(self, database: Database, steps: Sequence[Step] = (), progress: ShowProgress = no_progress) -> None:
        self.size = count_rows(database)
        self.steps, self.database, self._plain, self._progress = list(steps), database, database, progress
        self._graphs: dict[tuple[int, bool], Graph] = {}
        # Of the descriptors as they are, because those of an augmented database are all nearer to each other.
        self._likely = LikelyMatches(database) if any(step.auto for step in steps) else None
        for step in steps:
            if step.method in _AUGMENTATIONS:
                alpha = step.numbers[1] if len(step.numbers) > 1 else None
                with progress("database augmentation", self.size, "rows") as advance:
                    self.database = augment_database(
                        database, int(step.numbers[0]), alpha, likely=self._likely_of(step), advance=advance
                    )
            if step.method == "diffusion" and not step.values[0]:
                self._graph(step)

    def rank(self, queries: np.ndarray, k: int) -> Ranking:
        """Ranks the rows of the database for each query, with all methods in order.

        Args:
            queries: descriptors of the queries, (Q, D), L2-normalised.
            k: number of rows in each ranking, at least 1; all N if there are fewer.

        Returns:
            Row numbers, (Q, min(k, N)) int64, and scores, (Q, min(k, N)) float32, best first. The score of a row is
            computed by the method that ranked the row. The method `superglobal` ranks only its `first` rows; later rows
            keep the scores of the previous ranking, which are not comparable with those of the first rows. If all
            methods use likely matches, the rows at the beginning that keep their place have their similarity, or the
            best score of the other rows if that is larger.

        Raises:
            ArgumentError: `k` is below 1, the database has no rows, or the shapes do not match.
            DescriptorError: a descriptor contains NaN or an infinite number.
        """
        if k < 1:
            raise ArgumentError(f"k must be at least 1, got {k}")
        depth = min(
            self.size, max([k, *(int(step.numbers[0]) for step in self.steps if step.method not in _AUGMENTATIONS)])
        )
        original, plain, ranking = queries, None, None
        if self.steps and all(step.auto for step in self.steps):
            # Likely matches are looked for among the descriptors as they are.
            plain = self._searched(queries, min(self.size, max(depth, _MOST)), self._plain)
        for step in self.steps:
            if step.method in ("aqe", "alphaqe"):
                near = plain if queries is original else None
                queries, ranking = self._expanded(queries, ranking, step, near), None
            elif step.method == "superglobal":
                ranking = self._reranked(queries, ranking or self._searched(queries, depth), step)
            elif step.method == "diffusion":
                ranking = self._diffused(queries, depth, step)
        indexes, scores = ranking or self._searched(queries, min(k, self.size))
        if plain:
            indexes, scores = self._with_leading_matches(original, plain, (indexes, scores))
        return indexes[:, :k], scores[:, :k]

    def _with_leading_matches(self, queries: np.ndarray, plain: Ranking, ranking: Ranking) -> Ranking:
        """Begins a ranking by the methods as that by similarity begins, up to the end of its first likely matches.

        What similarity ranks first is mostly right, and the methods are for what comes after it. A query without likely
        matches keeps its first `_KEPT` rows.

        Args:
            queries: descriptors of the queries, (Q, D).
            plain: the ranking by similarity, (Q, k or more).
            ranking: the ranking by the methods, (Q, k).
        """
        likely = self._likely
        assert likely is not None, "methods that use likely matches have them"
        first, similarities = (part[:, :_MOST] for part in plain)
        matches = self._known(likely, first).of_queries(queries, first, plain[1]) > 0
        own = similarities > 1 - SAME  # the query's own image
        others = matches & ~own
        indexes, scores = (part.copy() for part in ranking)
        k = indexes.shape[1]
        for row in range(len(indexes)):
            if others[row].any():
                begin = int(others[row].argmax())
                length = begin + int(np.append(matches[row, begin:], False).argmin())
            else:
                length = int(np.count_nonzero(own[row])) + _KEPT
            head = plain[0][row, :length]
            left = ~np.isin(ranking[0][row], head)
            rest = ranking[1][row, left]
            # The methods' scores have other scales: those of the head are raised to be the largest.
            raised = np.maximum(plain[1][row, : len(head)], rest[:1].max(initial=-np.inf))
            indexes[row] = np.concatenate([head, ranking[0][row, left]])[:k]
            scores[row] = np.concatenate([raised, rest])[:k]
        return indexes, scores

    def _searched(self, queries: np.ndarray, k: int, database: Database | None = None) -> Ranking:
        database = self.database if database is None else database
        if _DEEP * k < self.size:
            with self._progress("search", self.size, "rows") as advance:
                return nearest(queries, database, k, advance=advance)
        with self._progress("search", self.size * count_passes(len(queries), self.size), "rows") as advance:
            return sort_all(queries, database, k, advance=advance)

    def _expanded(self, queries: np.ndarray, ranking: Ranking | None, step: Step, near: Ranking | None) -> np.ndarray:
        n, alpha = (*step.numbers, 0.0)[:2]
        likely, similarities = self._likely_of(step), None
        if ranking:
            indexes = ranking[0][:, : int(n)]
        elif likely is None:
            indexes, _ = self._searched(queries, int(n))
        else:
            indexes, similarities = near or self._searched(queries, int(n), self._plain)
            indexes = indexes[:, : int(n)]
        weights = None if likely is None else self._known(likely, indexes).of_queries(queries, indexes, similarities)
        return expand_queries(queries, self.database, int(n), alpha, indexes=indexes, weights=weights)

    def _reranked(self, queries: np.ndarray, ranking: Ranking, step: Step) -> Ranking:
        first, neighbours, beta = step.numbers
        head = slice(None), slice(int(first))
        indexes, scores = (part.copy() for part in ranking)
        likely = self._likely_of(step)
        if likely is not None:
            self._known(likely, indexes[head])
        indexes[head], scores[head] = rerank(
            queries,
            self.database,
            indexes[head],
            neighbours=int(neighbours),
            beta=beta,
            likely=likely,
        )
        return indexes, scores

    def _diffused(self, queries: np.ndarray, k: int, step: Step) -> Ranking:
        truncate, neighbours, seeds = map(int, step.numbers)
        graph = None if truncate else self._graph(step)
        with self._progress("diffusion", len(queries), "queries") as advance:
            found = diffusion(
                queries,
                self.database,
                truncate or k,
                graph=graph,
                truncate=truncate or None,
                neighbours=neighbours,
                seeds=seeds,
                likely=self._likely_of(step),
                advance=advance,
            )
        return self._extended(queries, found, k) if truncate else found

    def _extended(self, queries: np.ndarray, head: Ranking, k: int) -> Ranking:
        """Extends the rankings of truncated diffusion to k rows: the other rows by similarity, with score 0."""
        indexes, _ = self._searched(queries, k)
        scores = np.zeros(indexes.shape, np.float32)
        scores[:, : head[1].shape[1]] = head[1]
        for row, first in enumerate(head[0]):
            others = indexes[row][~np.isin(indexes[row], first)]
            indexes[row] = np.concatenate([first, others])[: indexes.shape[1]]
        return indexes, scores

    def _graph(self, step: Step) -> Graph:
        neighbours, likely = int(step.numbers[1]), self._likely_of(step)
        if (neighbours, step.auto) not in self._graphs:
            with self._progress("neighbour graph", self.size, "rows") as advance:
                graph = mutual_graph(self.database, neighbours, likely=likely, advance=advance)
            self._graphs[neighbours, step.auto] = graph
        return self._graphs[neighbours, step.auto]

    def _known(self, likely: LikelyMatches, indexes: np.ndarray) -> LikelyMatches:
        """Computes the scales of the given rows, with progress, where they are not known yet."""
        missing = likely.missing(indexes)
        if len(missing):
            with self._progress("likely matches", len(missing), "rows") as advance:
                likely.scales(missing, advance)
        return likely

    def _likely_of(self, step: Step) -> LikelyMatches | None:
        return self._likely if step.auto else None


def rank(queries: np.ndarray, database: Database, steps: Sequence[Step], k: int) -> Ranking:
    """Ranks the rows of a database for one set of queries with the given query-time methods.

    The result is that of `Ranker(database, steps).rank(queries, k)`. For several sets of queries, a `Ranker` is faster.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: L2-normalised descriptors of the database, as an array (N, D) or as a sequence of arrays (n, D).
        steps: the methods, in the order of application, from `parse`; empty for a search without such methods.
        k: number of rows in each ranking, at least 1; all N if there are fewer.

    Returns:
        Row numbers, (Q, min(k, N)) int64, and scores, (Q, min(k, N)) float32, best first; see `Ranker.rank`.

    Raises:
        ArgumentError: `k` is below 1, the database has no rows, or the shapes do not match.
        DescriptorError: a descriptor contains NaN or an infinite number.
    """
    return Ranker(database, steps).rank(queries, k)


def _text(value: int | float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _form(method: str) -> str:
    parameters = METHODS[method]
    return method + "".join(f"[:{name}={_text(default)}" for name, default in parameters) + "]" * len(parameters)


def _parsed(part: str) -> Step:
    method, *texts = part.split(":")
    if method == AUTO:
        raise MethodError(f"'{AUTO}' stands for {RECOMMENDED}, alone: leave the other methods out")
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise MethodError(f"unknown method '{method}'.{hint} Known: {', '.join(map(_form, METHODS))}, {AUTO}")
    parameters = METHODS[method]
    if len(texts) > len(parameters):
        raise MethodError(f"'{part}' has more values than {_form(method)}")
    given = [_value(part, *parameter, text) for parameter, text in zip(parameters, texts, strict=False)]
    return Step(method, (*given, *(default for _, default in parameters[len(given) :])))


def _value(part: str, name: str, default: int | float | str, text: str) -> int | float | str:
    if default == AUTO and text == AUTO:
        return AUTO
    whole = not isinstance(default, float)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = -1
    least = 1 if whole and default else 0
    if not least <= value < math.inf:
        kind = "an integer" if whole else "a number"
        choice = f"{AUTO} or " if default == AUTO else ""
        raise MethodError(f"'{part}': {name} must be {choice}{kind} of at least {least}, got '{text}'")
    return value
