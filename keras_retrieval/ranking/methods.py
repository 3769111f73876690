"""Methods at query time by name: `parse("dba:10,alphaqe:50:3,superglobal")` and a `Ranker` that applies them in turn.

This is the one place that knows their names, the order of their values and their defaults; the steps `evaluate` and
`search` take the same text.
"""

import difflib
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from .reranking import Graph, augment_database, diffusion, expand_queries, mutual_graph, nearest, rerank
from .rows import Advance, Database, count_rows
from .whole_ranking import count_passes, sort_all

Ranking: TypeAlias = tuple[np.ndarray, np.ndarray]
Watch: TypeAlias = Callable[[str, int, str], AbstractContextManager[Advance]]

METHODS: dict[str, tuple[tuple[str, int | float], ...]] = {
    "dba": (("n", 10), ("alpha", 3.0)),
    "rankdba": (("n", 20),),
    "alphaqe": (("n", 50), ("alpha", 3.0)),
    "aqe": (("n", 10),),
    "superglobal": (("first", 400), ("neighbours", 9), ("beta", 0.15)),
    "diffusion": (("truncate", 0), ("neighbours", 50), ("seeds", 10)),
}
"""Method -> its values in order, each with its default, whose type it has."""

_MEANINGS = {
    "dba": "each database row plus its n nearest others, weighed by similarity^alpha; first of all",
    "rankdba": "the same, weighed by rank, from 1 down to 1 / n (Gordo et al. IJCV 2017)",
    "alphaqe": "query plus its n nearest, weighed by similarity^alpha (Radenovic et al. TPAMI 2018), then a new search",
    "aqe": "the same, unweighed (Chum et al. ICCV 2007)",
    "superglobal": "re-ranks the first rows by refined descriptors (Shao et al. ICCV 2023)",
    "diffusion": "ranks along the neighbour graph (Iscen et al. CVPR 2017); truncate: among so many first rows, 0: all",
}

_AUGMENTATIONS = ("dba", "rankdba")  # they change the database, not a ranking
_DEEP = 8  # from an eighth of the database on, sorting all similarities once is faster than merging pieces


class MethodError(ValueError):
    """A text does not name methods at query time, or names them in an order that makes no sense."""


@dataclass(frozen=True)
class Step:
    """One method with all its values.

    Attributes:
        method: a key of `METHODS`.
        values: in the order of `METHODS`.
    """

    method: str
    values: tuple[int | float, ...]

    def __str__(self) -> str:
        return ":".join([self.method, *(f"{value:g}" for value in self.values)])


def describe_methods() -> str:
    """All methods, their values and defaults, for a help text."""
    forms = ((_form(method), meaning) for method, meaning in _MEANINGS.items())
    return "; ".join(f"{form}: {meaning}" for form, meaning in forms)


def parse(text: str) -> list[Step]:
    """Reads methods with commas between, each with its values after colons: "dba:10,alphaqe:50:3,diffusion".

    Values that are left out have the defaults of `METHODS`.

    Args:
        text: what a user wrote; nothing for a plain search.

    Returns:
        The steps in order.

    Raises:
        MethodError: an unknown method, too many values or a wrong one, or an order that would undo a method.
    """
    steps = [_parsed(part.strip()) for part in text.split(",")] if text.strip() else []
    for number, (before, step) in enumerate(zip([None, *steps], steps, strict=False)):
        if step.method in _AUGMENTATIONS and number:
            raise MethodError(f"'{text}': {step.method} changes the database, so it comes first and once")
        if step.method == "diffusion" and before and before.method in ("superglobal", "diffusion"):
            raise MethodError(f"'{text}': diffusion ranks anew, so that {before.method} right before it is lost")
    return steps


@contextmanager
def unwatched(label: str, total: int, unit: str) -> Iterator[Advance]:
    """Shows no progress."""
    yield lambda count: None


class Ranker:
    """A database made ready for the methods: augmented, its neighbour graph built. Then it ranks any queries.

    Args:
        database: (N, D), L2-normalised, or its shards in order. `dba` and `rankdba` make a copy in memory.
        steps: from `parse`.
        watch: opens a display of progress for a label, a total and its unit, such as `unwatched`.

    Raises:
        ValueError: no rows, or NaN in a row.
    """

    def __init__(self, database: Database, steps: Sequence[Step] = (), watch: Watch = unwatched) -> None:
        self.size = count_rows(database)
        self.steps, self.database, self._watch = list(steps), database, watch
        self._graphs: dict[int, Graph] = {}
        for method, values in ((step.method, step.values) for step in steps):
            if method in _AUGMENTATIONS:
                with watch("database augmentation", self.size, "rows") as advance:
                    self.database = augment_database(database, int(values[0]), *(values[1:] or [None]), advance=advance)
            if method == "diffusion" and not values[0]:
                self._graph(int(values[1]))

    def rank(self, queries: np.ndarray, k: int) -> Ranking:
        """The first k rows of each query after all methods.

        Args:
            queries: (Q, D), L2-normalised.
            k: how many rows; all N where there are fewer.

        Returns:
            indexes (Q, min(k, N)) int64 and scores (Q, min(k, N)) float32, best first. Scores are those of the method
            that ranked a row: past the `first` rows of superglobal they are the ones of the ranking before it, and do
            not compare with those above.

        Raises:
            ValueError: k below 1, shapes that do not fit, NaN in a row.
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
            with self._watch("search", self.size, "rows") as advance:
                return nearest(queries, self.database, k, advance=advance)
        with self._watch("search", self.size * count_passes(len(queries), self.size), "rows") as advance:
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
        with self._watch("diffusion", len(queries), "queries") as advance:
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
        return self._followed(queries, found, k) if truncate else found

    def _followed(self, queries: np.ndarray, head: Ranking, k: int) -> Ranking:
        """The rows that truncated diffusion ordered, then those behind them as a search has them, with score 0."""
        indexes, _ = self._searched(queries, k)
        scores = np.zeros(indexes.shape, np.float32)
        scores[:, : head[1].shape[1]] = head[1]
        for row, first in enumerate(head[0]):
            behind = indexes[row][~np.isin(indexes[row], first)]
            indexes[row] = np.concatenate([first, behind])[: indexes.shape[1]]
        return indexes, scores

    def _graph(self, neighbours: int) -> Graph:
        if neighbours not in self._graphs:
            with self._watch("neighbour graph", self.size, "rows") as advance:
                self._graphs[neighbours] = mutual_graph(self.database, neighbours, advance=advance)
        return self._graphs[neighbours]


def rank(queries: np.ndarray, database: Database, steps: Sequence[Step], k: int) -> Ranking:
    """`Ranker` for one set of queries.

    Args:
        queries: (Q, D), L2-normalised.
        database: (N, D), L2-normalised, or its shards in order.
        steps: from `parse`.
        k: how many rows; all N where there are fewer.

    Returns:
        As `Ranker.rank`.

    Raises:
        ValueError: as `Ranker.rank`.
    """
    return Ranker(database, steps).rank(queries, k)


def _form(method: str) -> str:
    return method + "".join(f"[:{name}={default:g}" for name, default in METHODS[method]) + "]" * len(METHODS[method])


def _parsed(part: str) -> Step:
    method, *texts = part.split(":")
    if method not in METHODS:
        near = difflib.get_close_matches(method, METHODS, 1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise MethodError(f"no method '{method}' at query time.{hint} Known: {', '.join(map(_form, METHODS))}")
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
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise MethodError(f"'{part}': {name} must be {kind} of at least {least}, not '{text}'")
    return value
