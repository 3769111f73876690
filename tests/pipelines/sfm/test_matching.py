"""Rounds of pairs on a database whose answers are known."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from pipelines.sfm.candidate_pairs import all_pairs
from pipelines.sfm.matching import match_in_rounds
from pipelines.sfm.near_photos import Nearness
from pipelines.sfm.options import ReconstructOptions


class Answers:
    """A database whose matches are known beforehand."""

    def __init__(self, path, true):
        self.path, self.true, self.tried = path, true, {}
        self.asked = []

    def inliers(self):
        return dict(self.tried)

    def match(self, pairs, seed):
        fresh = [pair for pair in pairs if pair not in self.tried]
        self.asked += fresh
        self.tried.update({pair: self.true.get(pair, 0) for pair in fresh})
        return len(fresh)


@pytest.fixture
def ring(tmp_path, monkeypatch):
    """12 photos around an object: each sees what the three on either side see. Visual words propose nothing."""
    monkeypatch.setattr("pipelines.sfm.matching.vocabulary_pairs", lambda *_: [])
    names = [f"{number:02}" for number in range(12)]
    angles = np.arange(12) / 12 * 2 * np.pi
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype("float32")
    apart = {
        (one, other): min(abs(int(one) - int(other)), 12 - abs(int(one) - int(other)))
        for one, other in all_pairs(names)
    }
    true = {pair: 40 for pair, steps in apart.items() if steps <= 3}
    return names, rows, Answers(tmp_path / "database.db", true)


def pairing(**options):
    return ReconstructOptions(Path("photos"), Path("work"), **{"neighbours": 2, **options})


def test_a_vocabulary_replaced_at_its_path_begins_the_rounds_anew(ring, tmp_path, monkeypatch):
    names, rows, answers = ring
    proposed = []
    monkeypatch.setattr(
        "pipelines.sfm.matching.vocabulary_pairs", lambda *_: proposed.append(1) or [(names[0], names[1])]
    )
    words = tmp_path / "words.bin"
    words.write_bytes(b"one")
    options = pairing(pairs="vocabulary-tree", vocabulary=words)
    counts = []
    for content in (b"one", b"one", b"another"):
        words.write_bytes(content)
        match_in_rounds(answers, names, options, lambda: rows)
        counts.append(len(proposed))
    assert counts[0] == counts[1] < counts[2]


def test_rounds_find_what_retrieval_misses(ring):
    names, rows, answers = ring
    rounds = match_in_rounds(answers, names, pairing(), lambda: rows)
    assert rounds[0] == {"by": "descriptors", "pairs": 12, "verified": 12}
    assert sum(entry["verified"] for entry in rounds) == len(answers.true) == 36
    assert len(answers.tried) < 66
    asked = list(answers.asked)
    match_in_rounds(answers, names, pairing(), lambda: pytest.fail("descriptors are not needed again"))
    assert answers.asked == asked


def test_a_killed_matching_goes_on_with_the_same_pairs(ring, monkeypatch):
    names, rows, answers = ring
    whole = Answers(answers.path.with_name("other") / "database.db", answers.true)
    whole.path.parent.mkdir()
    match_in_rounds(whole, names, pairing(), lambda: rows)
    real = Answers.match

    def dies(self, pairs, seed):
        real(self, pairs[: len(pairs) // 2], seed)
        raise KeyboardInterrupt

    for _ in range(3):
        with monkeypatch.context() as patch:
            patch.setattr(Answers, "match", dies)
            with pytest.raises(KeyboardInterrupt):
                match_in_rounds(answers, names, pairing(), lambda: rows)
    match_in_rounds(answers, names, pairing(), lambda: rows)
    assert answers.tried == whole.tried
    assert len(answers.asked) == len(set(answers.asked))


def test_an_added_photo_costs_its_own_pairs(ring):
    names, rows, answers = ring
    match_in_rounds(answers, names[:-1], pairing(), lambda: rows[:-1])
    before = set(answers.tried)
    match_in_rounds(answers, names, pairing(), lambda: rows)
    new = set(answers.tried) - before
    assert new
    assert all(names[-1] in pair for pair in new)


def test_exhaustive_pairs_are_all(ring):
    names, _, answers = ring
    match_in_rounds(answers, names, pairing(pairs="exhaustive"), lambda: pytest.fail("no descriptors are needed"))
    assert set(answers.tried) == set(combinations(names, 2))


@pytest.mark.parametrize("by", ["retrieval", "exhaustive"])
def test_no_round_pairs_photos_that_are_far_apart(ring, by):
    names, rows, answers = ring
    # Photos 0..5 are at one place, 6..10 at another 200 m away, and 11 has no position.
    spots = np.array([[0.0, 0.0]] * 6 + [[200.0, 0.0]] * 5 + [[np.nan, np.nan]])
    near = Nearness(names, spots, 50.0)
    match_in_rounds(answers, names, pairing(pairs=by, near="50m"), lambda: rows, near)
    places = [set(names[:6]), set(names[6:11])]
    far = [
        pair for pair in answers.tried if names[11] not in pair and not any(place.issuperset(pair) for place in places)
    ]
    assert far == []
    verified = {pair for pair, count in answers.tried.items() if count}
    assert verified == {pair for pair in answers.true if near.keep([pair])}
