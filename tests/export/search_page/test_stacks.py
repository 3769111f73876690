"""Stacks: groups of copies and of one object, by distances relative to the surroundings; found without a wait."""

import threading

import numpy as np
import pytest

from export.search_page import stack_finder
from export.search_page.catalogue import Catalogue
from export.search_page.grouping import (
    COPY_RATIO,
    MUTUAL,
    OBJECT_RATIO,
    Neighbours,
    candidates,
    group,
    neighbour_count,
)
from export.search_page.stack_finder import StackFinder
from tests.helpers.page_source import SmallSource
from tests.helpers.small_index import random_rows, unit


def near(rows):
    """The neighbours of all rows by sorting all products."""
    products = rows @ rows.T
    np.fill_diagonal(products, -np.inf)
    ids = np.argsort(-products, axis=1, kind="stable")[:, : neighbour_count(len(rows))]
    return Neighbours(ids, np.maximum(1 - np.take_along_axis(products, ids, 1), 0).astype(np.float32))


def grouped(rows):
    neighbours = near(rows)
    photos = candidates(neighbours)
    rows_of = np.full(len(rows), -1)
    rows_of[photos] = np.arange(len(photos))
    return group(neighbours, rows[photos], rows_of)


def around(centre, count, noise, seed):
    chance = np.random.default_rng(seed).normal(size=(count, len(centre)))
    return unit(centre + noise * chance / np.sqrt(len(centre)))


def scene(seed=0, dimensions=64):
    """100 photos of other things, 6 of an object, 3 copies of a photo, and 4 of an object with 2 copies among them."""
    chance = np.random.default_rng(seed)
    others = unit(chance.normal(size=(100, dimensions)))
    first, second, third = unit(chance.normal(size=(3, dimensions)))
    copied = around(third, 3, 0.4, seed + 3)
    parts = [others, around(first, 6, 0.4, seed + 1), around(second, 3, 0.02, seed + 2), copied, copied[:1]]
    return np.concatenate(parts)


@pytest.mark.parametrize("shift", [0, 1.0, 3.0])  # descriptors without whitening share a direction
@pytest.mark.parametrize("seed", range(3))
def test_objects_and_copies_are_found_whatever_random_pairs_score(shift, seed):
    rows = scene(seed)
    rows = unit(rows + shift * np.eye(64)[0])
    groups = grouped(rows)
    assert groups.number[:100].tolist() == [-1] * 100
    assert groups.number[100:].tolist() == [0] * 6 + [1] * 3 + [2] * 4
    assert groups.copies.tolist() == [False, True, False]


@pytest.mark.parametrize("turn", [np.pi, 4 * np.pi])  # neighbours are copies, and of one object
def test_a_chain_of_similar_photos_is_not_one_group(turn):
    """A walk: each photo is like the next, and its ends have nothing in common."""
    angles = np.linspace(0, turn, 200)
    walk = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    rows = unit(np.concatenate([walk, np.zeros((200, 62))], axis=1) + 0.001 * random_rows(200, 64))
    groups = grouped(rows)
    for number in range(len(groups.copies)):
        members = np.flatnonzero(groups.number == number)
        assert (walk[members] @ walk[members].T).min() > np.cos(1.2)


def test_groups_equal_a_loop_over_pairs_where_there_are_pairs_only():
    chance = np.random.default_rng(4)
    rows = unit(chance.normal(size=(60, 32)))
    for row in range(0, 60, 3):
        rows[row] = around(rows[row + 1], 1, chance.uniform(0, 1.2), row)[0]
    neighbours, groups = near(rows), grouped(rows)
    scale = neighbours.distances[:, -1]
    for a in range(60):
        for b in range(a):
            ratio = (1 - rows[a] @ rows[b]) / np.sqrt(scale[a] * scale[b])
            mutual = a in neighbours.ids[b, :MUTUAL] and b in neighbours.ids[a, :MUTUAL]
            together = groups.number[a] >= 0 and groups.number[a] == groups.number[b]
            assert together == (ratio <= OBJECT_RATIO and mutual)
            if together:
                assert groups.copies[groups.number[a]] == (ratio <= COPY_RATIO)


def test_many_identical_photos_are_one_group():
    rows = np.concatenate([random_rows(100, 64), np.tile(random_rows(1, 64, seed=9), (40, 1))])
    groups = grouped(rows)
    assert (groups.number >= 0).tolist() == [False] * 100 + [True] * 40
    assert groups.copies.tolist() == [True]


@pytest.mark.parametrize("count", range(8, 14))
def test_a_dozen_photos_have_stacks_too(count):
    rows = random_rows(count, 64)
    rows[1] = around(rows[0], 1, 0.05, 1)[0]
    with np.errstate(all="raise"):
        groups = grouped(rows)
    assert groups.number.tolist() == [0, 0] + [-1] * (count - 2)


@pytest.fixture
def source(tmp_path):
    return SmallSource(tmp_path)


def filled(source, rows):
    names = [f"{row:03}.jpg" for row in range(len(rows))]
    source.searched.delete(source.searched.names)
    source.searched.add(names, rows)
    source.photos = Catalogue(names, version=str(len(rows)))
    return source


def test_stacks_follow_the_index(source, monkeypatch):
    monkeypatch.setattr(stack_finder, "PAUSE", 0)
    monkeypatch.setattr(stack_finder, "SHORTEST_PAUSE", 0)
    monkeypatch.setattr(stack_finder, "BLOCK", 7)
    rows = scene(dimensions=8)
    filled(source, rows)
    finder = StackFinder(source)
    assert not finder.stacks(source.photos)
    finder.wait(20)
    found = finder.stacks(source.photos)
    expected = grouped(rows)
    np.testing.assert_array_equal(found.number, expected.number)
    np.testing.assert_array_equal(found.copies, expected.copies)
    assert finder.stacks(source.photos) is found
    source.searched.delete(["000.jpg"])
    source.photos = Catalogue(source.searched.names, version="less")
    before = finder.stacks(source.photos)  # the older stacks, of the photos that are left
    np.testing.assert_array_equal(before.number, found.number[1:])
    finder.wait(20)
    assert finder.stacks(source.photos).version != found.version
    finder.close()


def test_too_few_photos_or_too_many_have_no_stacks(source, monkeypatch):
    monkeypatch.setattr(stack_finder, "MOST_PHOTOS", 20)
    for rows in (np.tile(random_rows(1), (7, 1)), np.tile(random_rows(1), (21, 1))):
        finder = StackFinder(filled(source, rows))
        finder.stacks(source.photos)
        finder.wait(20)
        assert not finder.stacks(source.photos)
        finder.close()


def test_no_request_waits_and_a_closed_page_ends_the_work(source, monkeypatch):
    filled(source, scene(dimensions=8))
    going, search = threading.Event(), source.searched.search

    def slow(*arguments, **options):
        going.wait(20)
        return search(*arguments, **options)

    monkeypatch.setattr(source.searched, "search", slow)
    finder = StackFinder(source)
    assert not finder.stacks(source.photos)
    assert not finder.stacks(source.photos)
    finder._closing.set()
    going.set()
    finder.close()
    assert not finder._thread.is_alive()
    assert not finder.stacks(source.photos)


def test_an_index_that_fails_is_logged(source, monkeypatch, caplog):
    filled(source, scene(dimensions=8))

    def fail(*_, **__):
        raise OSError("the disk is gone")

    monkeypatch.setattr(source.searched, "search", fail)
    finder = StackFinder(source)
    finder.stacks(source.photos)
    finder.wait(20)
    assert "stacks of photos were not found: the disk is gone" in caplog.text
    finder.close()
