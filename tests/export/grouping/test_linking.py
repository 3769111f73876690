"""Groups from pairs: what joins, what does not, and what the order of the pairs changes."""

import itertools

import numpy as np
import pytest

from export.grouping.linking import Pair, group


def pairs_of(text, probability=0.99):
    return [Pair(*sorted(pair), probability) for pair in text.split()]


def grouped(text):
    return ["".join(names) for names in group(pairs_of(text))]


@pytest.mark.parametrize(
    ("links", "groups"),
    [
        ("", []),
        ("ab", ["ab"]),
        ("ab bc ac", ["abc"]),
        ("ab bc", ["ab"]),  # c is linked to one photo of two only
        ("ab bc cd da", ["abcd"]),
        ("ab ac bc xy xz yz", ["abc", "xyz"]),
        ("ab ac bc xy xz yz ax", ["abc", "xyz"]),  # one pair does not join two groups
        ("ab ac bc xy xz yz ax ay az", ["abc", "xyz"]),  # nor do pairs of one photo, which may show both objects
        ("ab ac bc xy xz yz ax by", ["abcxyz"]),
        ("ab ac bc xy xz yz ma mb", ["abcm", "xyz"]),
        ("ab cd ac bd", ["abcd"]),
    ],
)
def test_what_joins(links, groups):
    assert grouped(links) == groups


def test_the_surest_pairs_come_first_whatever_their_order():
    """m shows both objects: it goes to that of which it is surer, and joins nothing."""
    pairs = pairs_of("ab ac bc xy xz yz", 0.995) + pairs_of("ma mb mc", 0.991) + pairs_of("mx my mz", 0.992)
    for seed in range(20):
        order = np.random.default_rng(seed).permutation(len(pairs))
        assert group([pairs[place] for place in order]) == [["m", "x", "y", "z"], ["a", "b", "c"]]


def test_random_false_pairs_join_no_complete_groups():
    chance = np.random.default_rng(0)
    objects = [[f"{number}-{view}" for view in range(8)] for number in range(20)]
    pairs = [Pair(*pair, 0.99) for one in objects for pair in itertools.combinations(one, 2)]
    neighbours = zip(objects[::2], objects[1::2], strict=True)
    false = [Pair(*sorted((str(chance.choice(one)), str(chance.choice(other)))), 0.99) for one, other in neighbours]
    assert sorted(group(pairs + false)) == sorted(objects)
