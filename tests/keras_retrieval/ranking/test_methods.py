"""Methods at query time: parsing, and a sequence of methods equals the single methods one after another."""

import contextlib

import numpy as np
import pytest

from keras_retrieval.errors import ArgumentError
from keras_retrieval.ranking.methods import METHODS, MethodError, Ranker, Step, describe_methods, parse, rank
from keras_retrieval.ranking.reranking import augment_database, diffusion, expand_queries, nearest, rerank
from keras_retrieval.ranking.rows import l2_normalize
from keras_retrieval.ranking.whole_ranking import sort_all

RNG = np.random.default_rng(0)
CENTRES = RNG.normal(size=(6, 16))
DATABASE = l2_normalize(CENTRES[np.arange(90) % 6] + 0.4 * RNG.normal(size=(90, 16))).astype("float32")
QUERIES = l2_normalize(CENTRES + 0.4 * RNG.normal(size=(6, 16))).astype("float32")


def test_nothing_is_a_plain_search():
    assert parse("") == parse("  ") == []
    found = rank(QUERIES, DATABASE, [], 10)
    for mine, expected in zip(found, nearest(QUERIES, DATABASE, 10), strict=True):
        np.testing.assert_array_equal(mine, expected)


def test_values_have_the_defaults_of_the_table():
    assert parse("alphaqe") == parse("alphaqe:auto:3") == [Step("alphaqe", ("auto", 3.0))]
    assert parse("auto") == parse("diffusion")
    assert parse("dba:7, alphaqe:20:0.5 ,superglobal:100") == [
        Step("dba", (7, 3.0)),
        Step("alphaqe", (20, 0.5)),
        Step("superglobal", (100, "auto", 0.15)),
    ]
    for method in METHODS:
        assert parse(",".join(map(str, parse(method)))) == parse(method)
        assert f"{method}[:" in describe_methods()


@pytest.mark.parametrize(("text", "message"), [
    ("alphqe", "Did you mean 'alphaqe'.*Known: dba"),
    ("dba,", "unknown method ''"),
    ("dba:x", "'dba:x': n must be auto or an integer of at least 1, got 'x'"),
    ("dba:5:auto", "alpha must be a number of at least 0, got 'auto'"),
    ("diffusion:auto", "truncate must be an integer of at least 0, got 'auto'"),
    ("auto,alphaqe", "'auto' stands for diffusion, alone"),
    ("auto:5", "'auto' stands for diffusion, alone"),
    ("dba:0", "at least 1"),
    ("alphaqe:5:-1", "alpha must be a number of at least 0"),
    ("alphaqe:5:nan", "alpha"),
    ("alphaqe:5:inf", "alpha"),
    ("diffusion:1.5", "truncate must be an integer"),
    ("aqe:5:3", "more values than aqe"),
    ("alphaqe,dba", "dba changes the database"),
    ("dba,dba", "dba changes the database"),
    ("superglobal,diffusion", "superglobal before it has no effect"),
    ("diffusion,diffusion", "diffusion before it has no effect"),
])  # fmt: skip
def test_a_text_without_sense_is_refused(text, message):
    with pytest.raises(MethodError, match=message):
        parse(text)


def by_hand(text):
    """The same ranking, computed with the functions of `reranking`."""
    if text == "dba:4:2":
        return nearest(QUERIES, augment_database(DATABASE, 4, 2.0), 90)
    if text == "rankdba:4":
        return nearest(QUERIES, augment_database(DATABASE, 4, None), 90)
    if text == "aqe:5":
        return nearest(expand_queries(QUERIES, DATABASE, 5, 0.0), DATABASE, 90)
    if text == "superglobal:30:4:0.3":
        indexes, scores = nearest(QUERIES, DATABASE, 90)
        indexes[:, :30], scores[:, :30] = rerank(QUERIES, DATABASE, indexes[:, :30], neighbours=4, beta=0.3)
        return indexes, scores
    if text == "diffusion:0:10:3":
        return diffusion(QUERIES, DATABASE, 90, neighbours=10, seeds=3)
    if text == "diffusion:40:10:3":
        return diffusion(QUERIES, DATABASE, 90, truncate=40, neighbours=10, seeds=3)
    if text == "superglobal:20:9,alphaqe:6":
        first = rerank(QUERIES, DATABASE, nearest(QUERIES, DATABASE, 20)[0])[0]
        return nearest(expand_queries(QUERIES, DATABASE, 6, 3.0, indexes=first), DATABASE, 90)
    assert text == "dba:3,alphaqe:5:2,diffusion:0:8:4,superglobal:12:9"
    rows = augment_database(DATABASE, 3, 3.0)
    queries = expand_queries(QUERIES, rows, 5, 2.0)
    indexes, scores = diffusion(queries, rows, 90, neighbours=8, seeds=4)
    indexes[:, :12], scores[:, :12] = rerank(queries, rows, indexes[:, :12])
    return indexes, scores


COMPOSED = [
    "dba:4:2",
    "rankdba:4",
    "aqe:5",
    "superglobal:30:4:0.3",
    "diffusion:0:10:3",
    "diffusion:40:10:3",
    "superglobal:20:9,alphaqe:6",
    "dba:3,alphaqe:5:2,diffusion:0:8:4,superglobal:12:9",
]


@pytest.mark.parametrize("text", COMPOSED)
def test_composed_methods_are_the_single_ones_in_turn(text):
    (indexes, scores), (expected, by_search) = rank(QUERIES, DATABASE, parse(text), 90), by_hand(text)
    np.testing.assert_array_equal(indexes, expected)
    # A whole ranking multiplies in the other order: the last bit may differ.
    np.testing.assert_allclose(scores, by_search, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("text", COMPOSED)
def test_a_short_ranking_is_the_head_of_the_long_one(text):
    ranker = Ranker([DATABASE[:40], DATABASE[40:]], parse(text))
    short, long = ranker.rank(QUERIES, 7), ranker.rank(QUERIES, 10**6)
    assert long[0].shape == (6, 90)
    np.testing.assert_array_equal(short[0], long[0][:, :7])
    np.testing.assert_allclose(short[1], long[1][:, :7], rtol=1e-6)


def test_each_pass_is_watched_to_its_end():
    done = {}

    @contextlib.contextmanager
    def watch(label, total, unit):
        counts: list[int] = []
        yield counts.append
        done[label] = (sum(counts), total, unit)

    Ranker(DATABASE, parse("dba:3,alphaqe:4,diffusion"), watch).rank(QUERIES, 5)
    assert done == {
        "database augmentation": (90, 90, "rows"),
        "neighbour graph": (90, 90, "rows"),
        "search": (90, 90, "rows"),
        "diffusion": (6, 6, "queries"),
    }
    Ranker(DATABASE, parse("alphaqe"), watch).rank(QUERIES[:1], 5)
    assert done["likely matches"] == (50, 50, "rows")


@pytest.mark.parametrize("group", [1, 4, 2**27])
def test_sorting_all_is_the_exact_search(monkeypatch, group):
    monkeypatch.setattr("keras_retrieval.ranking.whole_ranking._SIMILARITIES", group * 90)
    whole_numbers = RNG.integers(-2, 3, (90, 16)).astype("float32")  # many equal similarities, without rounding
    counts: list[int] = []
    shards = [whole_numbers[:7], whole_numbers[7:60], whole_numbers[60:]]
    found = sort_all(whole_numbers[3:9], shards, 70, advance=counts.append)
    for mine, expected in zip(found, nearest(whole_numbers[3:9], whole_numbers, 70), strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert sum(counts) == 90 * -(-6 // group)


def test_sorting_all_names_what_is_wrong():
    broken = DATABASE.copy()
    broken[77, 3] = np.nan
    with pytest.raises(ValueError, match="database row 77 contains NaN"):
        sort_all(QUERIES, [broken[:50], broken[50:]], 90)
    with pytest.raises(ValueError, match="query row 2 contains NaN"):
        sort_all(broken[75:], DATABASE, 90)
    with pytest.raises(ValueError, match="queries have 5 dimensions, but the database has 16"):
        sort_all(QUERIES[:, :5], DATABASE, 90)
    with pytest.raises(ValueError, match="no rows"):
        sort_all(QUERIES, DATABASE[:0], 90)


@pytest.mark.parametrize("methods", ["", *METHODS, "diffusion:20:5:3", "aqe,superglobal"])
@pytest.mark.parametrize("k", [0, -1])
def test_a_ranking_has_at_least_one_row(methods, k):
    with pytest.raises(ArgumentError, match=f"^k must be at least 1, got {k}$"):
        rank(QUERIES, DATABASE, parse(methods), k)
