"""Tuning: the cheapest settings that reach the recall, and a recall equal to that of naive loops."""

import numpy as np
import pytest

from export.index_contract import recall_tuning
from export.index_contract.index_settings import IndexSettings
from export.index_contract.recall_tuning import HeldOutQueries, hold_out, tune
from tests.helpers.clock import Clock
from tests.helpers.small_index import clustered_rows, nearest


def test_held_queries_have_their_true_neighbours_without_themselves():
    rows = clustered_rows(300)
    rows[5] = rows[6] = rows[7] = rows[8]
    choose, report = hold_out(np.array_split(rows, 4), 300, 3, lambda block: block)
    assert sorted([*choose.ids, *report.ids]) == list(range(300))
    for held in (choose, report):
        np.testing.assert_array_equal(held.queries, rows[held.ids])
        for own, truth in zip(held.ids, held.truth, strict=True):
            products = rows @ rows[own]
            others = np.delete(np.arange(300), own)
            least = np.sort(products[others])[-3]
            assert {*truth[truth >= 0].tolist()} == {row for row in others.tolist() if products[row] >= least - 1e-6}


def test_recall_is_the_share_found_with_the_query_left_out():
    rows = clustered_rows(200)
    _, held = hold_out([rows], 200, 5, lambda block: block)
    exact = nearest(rows, held.queries, 6)
    assert held.recall(exact) == 1
    assert held.recall(np.full_like(exact, -1)) == 0
    half = exact.copy()
    half[:, 3:] = -1  # the query itself and two others
    assert held.recall(half) == pytest.approx(0.4)


def test_recall_is_that_of_a_loop_over_the_queries():
    """With queries that find themselves or not, rows that are padded, and neighbours as near as the k-th."""
    rng = np.random.default_rng(0)
    for _ in range(100):
        count, k, near = rng.integers(1, 9), int(rng.integers(1, 6)), int(rng.integers(5, 9))
        ids = rng.permutation(30)[:count]
        truth = np.stack([rng.permutation(30)[:near] for _ in ids])
        truth[rng.random(truth.shape) < 0.2] = -1
        found = np.stack([rng.permutation(30)[: k + 1] for _ in ids])
        for row in found:
            row[rng.integers(0, k + 2) :] = -1
        hits = 0
        for own, row, true in zip(ids, found.tolist(), truth.tolist(), strict=True):
            others = [other for other in row if other != own][:k]
            hits += len({*others} & {*true} - {-1})
        held_out = HeldOutQueries(ids, np.zeros((count, 1)), truth, k)
        assert held_out.recall(found) == pytest.approx(hits / (k * count))


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_few_rows_are_held_as_far_as_there_are_any(count):
    held = hold_out([clustered_rows(count)], count, 10, lambda block: block)
    assert (held is None) == (count < 2)


class _Clock(Clock):
    """A clock by which a search takes 1 ms for each leaf and 0.1 ms for each candidate."""

    def __init__(self, monkeypatch):
        super().__init__()
        monkeypatch.setattr(recall_tuning, "time", self)

    def after(self, find):
        def timed(queries, count, reorder, leaves):
            self.now += 0.001 * leaves + 0.0001 * reorder
            return find(queries, count, reorder, leaves)

        return timed


def _finder(rows, needed):
    """A search that finds all neighbours with enough leaves and candidates, else none; and the list of its calls."""
    calls = []

    def find(queries, count, reorder, leaves):
        calls.append((reorder, leaves))
        good = leaves >= needed[0] and reorder >= needed[1]
        return nearest(rows, queries, count) if good else np.full((len(queries), count), -1)

    return find, calls


@pytest.mark.parametrize(("leaves", "needed"), [(100, (30, 50)), (100, (29, 12)), (447, (130, 99)), (5, (2, 300))])
def test_the_least_leaves_and_candidates_that_are_enough_are_found(monkeypatch, leaves, needed):
    rows = clustered_rows(400)
    held = hold_out([rows], 400, 10, lambda block: block)
    find, calls = _finder(rows, needed)
    found = tune(_Clock(monkeypatch).after(find), held, IndexSettings(), leaves)
    assert found["recall"] == 1
    assert needed[0] <= found["leaves_to_search"] <= max(needed[0] + 1, 1.12 * needed[0])
    assert needed[1] <= found["reorder"] <= max(needed[1] + 1, 1.12 * needed[1])
    assert found["queries_per_second"] > 0
    assert len(set(calls)) <= 20


def test_times_that_other_work_disturbs_do_not_choose_more_than_is_needed(monkeypatch):
    rows = clustered_rows(400)
    held = hold_out([rows], 400, 10, lambda block: block)
    find, _ = _finder(rows, (30, 50))
    clock = _Clock(monkeypatch)

    def slower_with_less(queries, count, reorder, leaves):
        clock.now += 1 / (reorder + leaves)
        return find(queries, count, reorder, leaves)

    found = tune(slower_with_less, held, IndexSettings(), 100)
    assert (found["leaves_to_search"], found["reorder"]) == (30, 50)


def test_the_recall_is_reached_with_a_margin_of_two_standard_errors(monkeypatch):
    """One query in L finds nothing with L leaves, so that without the margin 20 leaves reach a recall of 0.95."""
    rows = clustered_rows(1500)
    held = hold_out([rows], 1500, 10, lambda block: block)
    place = {query.tobytes(): number for number, query in enumerate(held[0].queries)}
    exact = nearest(rows, held[0].queries, 11)

    def find(queries, count, reorder, leaves):
        numbers = np.array([place.get(query.tobytes(), 0) for query in queries])
        return np.where((numbers % leaves == 0)[:, None], -1, exact[numbers])

    searched = tune(_Clock(monkeypatch).after(find), held, IndexSettings(), 1000)["leaves_to_search"]
    share = len(range(0, 500, searched)) / 500
    surely = 1 - share - 2 * (share * (1 - share) / 500) ** 0.5
    assert 0.95 <= surely < 0.957


def test_numbers_that_a_user_names_are_kept():
    rows = clustered_rows(100)
    held = hold_out([rows], 100, 10, lambda block: block)
    find, calls = _finder(rows, (1, 1))
    found = tune(find, held, IndexSettings(leaves_to_search=7, reorder=40), 50)
    assert (found["reorder"], found["leaves_to_search"]) == (40, 7)
    assert set(calls) == {(40, 7)}
    find, calls = _finder(rows, (0, 30))
    assert tune(find, held, IndexSettings(), 0)["leaves_to_search"] == 0


def test_where_nothing_is_enough_the_nearest_is_taken():
    rows = clustered_rows(100)
    held = hold_out([rows], 100, 10, lambda block: block)

    def find(queries, count, reorder, leaves):
        found = nearest(rows, queries, count)
        found[:, 1 + min(9, leaves // 10) :] = -1
        return found

    found = tune(find, held, IndexSettings(), 80)
    assert found["leaves_to_search"] == 80
    assert found["recall"] == pytest.approx(0.8)
