"""Methods at query time by name: `parse("dba:10,alphaqe:50:3,superglobal")` and a `Ranker` that applies them in order.

The names, the order of their parameters and the defaults are defined here only; `keras-retrieval evaluate` and `search`
accept the same text.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..errors import RetrievalError
from .reranking import Graph, augment_database, diffusion, expand_queries, mutual_graph, nearest, rerank
from .rows import Advance, Database, count_rows
from .whole_ranking import count_passes, sort_all

Ranking: TypeAlias = tuple[np.ndarray, np.ndarray]
ShowProgress: TypeAlias = Callable[[str, int, str], AbstractContextManager[Advance]]
"""Shows the progress of an operation, given its label, the total and the unit; yields a function to advance it."""

METHODS: dict[str, tuple[tuple[str, int | float], ...]] = {
    "dba": (("n", 10), ("alpha", 3.0)),
    "rankdba": (("n", 20),),
    "alphaqe": (("n", 50), ("alpha", 3.0)),
    "aqe": (("n", 10),),
    "superglobal": (("first", 400), ("neighbours", 9), ("beta", 0.15)),
    "diffusion": (("truncate", 0), ("neighbours", 50), ("seeds", 10)),
}
"""Maps each method to its parameters in order, as (name, default); the default also defines the type."""

_MEANINGS = {
    "dba": "adds to each database row its n nearest other rows, weighted by similarity^alpha; must come first",
    "rankdba": "as dba, weighted by rank, from 1 down to 1 / n (Gordo et al. IJCV 2017)",
    "alphaqe": "adds to the query its n nearest rows, weighted by similarity^alpha, and searches again "
    "(Radenovic et al. TPAMI 2018)",
    "aqe": "as alphaqe, with equal weights (Chum et al. ICCV 2007)",
    "superglobal": "re-ranks the first rows by refined descriptors (Shao et al. ICCV 2023)",
    "diffusion": "ranks by diffusion on the neighbour graph, of the `truncate` first rows or, with 0, of all rows "
    "(Iscen et al. CVPR 2017)",
}

_AUGMENTATIONS = ("dba", "rankdba")  # these change the database, not a ranking
_DEEP = 8  # for k above 1/8 of the database, sorting all similarities once is faster than merging chunks


class MethodError(RetrievalError, ValueError):
    """A text does not name methods at query time, or names them in an order that has no effect."""


@dataclass(frozen=True)
class Step:
    """A method with the values of its parameters.

    Attributes:
        method: a key of `METHODS`.
        values: the values, in the order of `METHODS`.
    """

    method: str
    values: tuple[int | float, ...]

    def __str__(self) -> str:
        return ":".join([self.method, *(f"{value:g}" for value in self.values)])


def describe_methods() -> str:
    """Describes all methods with their parameters and defaults, for a help text."""
    forms = ((_form(method), meaning) for method, meaning in _MEANINGS.items())
    return "; ".join(f"{form}: {meaning}" for form, meaning in forms)


def parse(text: str) -> list[Step]:
    """Parses methods separated by commas, with values after colons: "dba:10,alphaqe:50:3,diffusion".

    Omitted values are the defaults of `METHODS`.

    Args:
        text: the methods; empty for a plain search.

    Returns:
        The steps in order.

    Raises:
        MethodError: a method is unknown, has too many values or a wrong value, or the result of a method would be
            discarded by the next one.
    """
    steps = [_parsed(part.strip()) for part in text.split(",")] if text.strip() else []
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
    """A `ShowProgress` that shows nothing."""
    yield lambda count: None


class Ranker:
    """Ranks queries with the given methods. The database is augmented, and its neighbour graph built, only once.

    Args:
        database: descriptors of the database, (N, D), L2-normalised, or its shards in order. `dba` and `rankdba` make a
            copy in memory.
        steps: the methods, from `parse`.
        progress: shows the progress of long operations.

    Raises:
        ArgumentError: the database has no rows.
        DescriptorError: a row contains NaN or an infinite number.
    """

    def __init__(self, database: Database, steps: Sequence[Step] = (), progress: ShowProgress = no_progress) -> None:
        self.size = count_rows(database)
        self.steps, self.database, self._progress = list(steps), database, progress
        self._graphs: dict[int, Graph] = {}
        for method, values in ((step.method, step.values) for step in steps):
            if method in _AUGMENTATIONS:
                with progress("database augmentation", self.size, "rows") as advance:
                    self.database = augment_database(database, int(values[0]), *(values[1:] or [None]), advance=advance)
            if method == "diffusion" and not values[0]:
                self._graph(int(values[1]))

    def rank(self, queries: np.ndarray, k: int) -> Ranking:
        """Ranks the database for each query with all methods.

        Args:
            queries: descriptors of the queries, (Q, D), L2-normalised.
            k: number of rows in each ranking; all N if there are fewer.

        Returns:
            Indexes (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first. The score of a row comes from
            the method that ranked it: beyond the `first` rows of superglobal it is the score of the previous ranking,
            and not comparable with the scores before.

        Raises:
            ArgumentError: `k` is below 1, or the shapes do not match.
            DescriptorError: a row contains NaN or an infinite number.
        """
        depth = min(
            self.size, max([k, *(int(step.values[0]) for step in self.steps if step.method not in _AUGMENTATIONS)])
        )
        ranking = None
        for step in self.steps:
            if step.method in ("aqe", "alphaqe"):
                queries, ranking = self._expanded(queries, ranking, step), None
            elif step.method == "superglobal":
                ranking = self._reranked(queries, ranking or self._searched(queries, depth), step)
            elif step.method == "diffusion":
                ranking = self._diffused(queries, depth, step)
        indexes, scores = ranking or self._searched(queries, min(k, self.size))
        return indexes[:, :k], scores[:, :k]

    def _searched(self, queries: np.ndarray, k: int) -> Ranking:
        if _DEEP * k < self.size:
            with self._progress("search", self.size, "rows") as advance:
                return nearest(queries, self.database, k, advance=advance)
        with self._progress("search", self.size * count_passes(len(queries), self.size), "rows") as advance:
            return sort_all(queries, self.database, k, advance=advance)

    def _expanded(self, queries: np.ndarray, ranking: Ranking | None, step: Step) -> np.ndarray:
        n, alpha = (*step.values, 0.0)[:2]
        indexes = ranking[0] if ranking else self._searched(queries, int(n))[0]
        return expand_queries(queries, self.database, int(n), alpha, indexes=indexes)

    def _reranked(self, queries: np.ndarray, ranking: Ranking, step: Step) -> Ranking:
        first, neighbours, beta = step.values
        head = slice(None), slice(int(first))
        indexes, scores = (part.copy() for part in ranking)
        indexes[head], scores[head] = rerank(
            queries, self.database, indexes[head], neighbours=int(neighbours), beta=beta
        )
        return indexes, scores

    def _diffused(self, queries: np.ndarray, k: int, step: Step) -> Ranking:
        truncate, neighbours, seeds = map(int, step.values)
        graph = None if truncate else self._graph(neighbours)
        with self._progress("diffusion", len(queries), "queries") as advance:
            found = diffusion(
                queries,
                self.database,
                truncate or k,
                graph=graph,
                truncate=truncate or None,
                neighbours=neighbours,
                seeds=seeds,
                advance=advance,
            )
        return self._extended(queries, found, k) if truncate else found

    def _extended(self, queries: np.ndarray, head: Ranking, k: int) -> Ranking:
        """Appends to the rows of truncated diffusion the other rows in the order of a search, with score 0."""
        indexes, _ = self._searched(queries, k)
        scores = np.zeros(indexes.shape, np.float32)
        scores[:, : head[1].shape[1]] = head[1]
        for row, first in enumerate(head[0]):
            others = indexes[row][~np.isin(indexes[row], first)]
            indexes[row] = np.concatenate([first, others])[: indexes.shape[1]]
        return indexes, scores

    def _graph(self, neighbours: int) -> Graph:
        if neighbours not in self._graphs:
            with self._progress("neighbour graph", self.size, "rows") as advance:
                self._graphs[neighbours] = mutual_graph(self.database, neighbours, advance=advance)
        return self._graphs[neighbours]


def rank(queries: np.ndarray, database: Database, steps: Sequence[Step], k: int) -> Ranking:
    """Ranks a database for one set of queries: `Ranker` in one call.

    Args:
        queries: descriptors of the queries, (Q, D), L2-normalised.
        database: descriptors of the database, (N, D), L2-normalised, or its shards in order.
        steps: the methods, from `parse`.
        k: number of rows in each ranking; all N if there are fewer.

    Returns:
        Indexes (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first, as from `Ranker.rank`.

    Raises:
        ArgumentError: in the same cases as `Ranker.rank`.
        DescriptorError: in the same cases as `Ranker.rank`.
    """
    return Ranker(database, steps).rank(queries, k)


def _form(method: str) -> str:
    return method + "".join(f"[:{name}={default:g}" for name, default in METHODS[method]) + "]" * len(METHODS[method])


def _parsed(part: str) -> Step:
    method, *texts = part.split(":")
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise MethodError(f"unknown method '{method}'.{hint} Known: {', '.join(map(_form, METHODS))}")
    parameters = METHODS[method]
    if len(texts) > len(parameters):
        raise MethodError(f"'{part}' has more values than {_form(method)}")
    given = [_value(part, *parameter, text) for parameter, text in zip(parameters, texts, strict=False)]
    return Step(method, (*given, *(default for _, default in parameters[len(given) :])))


def _value(part: str, name: str, default: int | float, text: str) -> int | float:
    try:
        value = type(default)(text)
    except ValueError:
        value = -1
    least = 1 if isinstance(default, int) and default else 0
    if not least <= value < math.inf:
        kind = "an integer" if isinstance(default, int) else "a number"
        raise MethodError(f"'{part}': {name} must be {kind} of at least {least}, got '{text}'")
    return value
