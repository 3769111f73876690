"""Which folders are taken for objects, which trees are refused, and what is said."""

import pytest

from pipelines.photos.object_folders import RULES, ObjectFoldersError, find_objects


def tree(*folders, photos=3):
    return [f"{folder}/{number}.jpg" if folder else f"{number}.jpg" for folder in folders for number in range(photos)]


HASHES = ("0ab1c2d3e4f5", "1bb1c2d3e4f6", "0ab1c2d3eff7", "9c01c2d3e4f8")

OBJECTS = {
    "plain names": (tree("a", "b", "d"), "a b d"),
    "folders in folders": (tree("europe/alps", "asia/fuji"), "asia/fuji europe/alps"),
    "numbers": (tree("0001", "0002", "0010"), "0001 0002 0010"),
    "numbers without zeros": (tree("1", "2", "10"), "1 10 2"),
    "numbered names": (tree("images/001.Albatross", "images/002.Auk"), "images/001.Albatross images/002.Auk"),
    "numbers in numbers": (tree("10/11", "12/13"), "10/11 12/13"),
    "files that repeat the number": (
        [f"{one:04}/{one:04}_c1s1_{n}.jpg" for one in (1, 2) for n in (1, 2)],
        "0001 0002",
    ),
    "files that repeat the name": ([f"{one}/{one}0000000{n}.jpg" for one in ("abc", "abd") for n in (1, 2)], "abc abd"),
    "letters": (tree(*"abcdef"), "a b c d e f"),
    "a letter and a number": (tree("a1", "a2", "b1"), "a1 a2 b1"),
    "splits with the same objects": (tree("train/a", "train/b", "test/a", "test/b"), "a b"),
    "splits with other objects": (tree("train/a", "test/b", "val/c"), "a b c"),
    "splits in objects": (tree("a/train", "a/test", "b/train", "b/test"), "a b"),
    "splits in a folder": (tree("set/training/a", "set/testing/a", "set/testing/b"), "set/a set/b"),
    "a vehicle": (tree("bus", "ship", "train"), "bus ship train"),
    "one split": (tree("train/a", "train/b"), "train/a train/b"),
    "objects in one year": (tree("2019/rome", "2019/oslo"), "2019/oslo 2019/rome"),
    "objects of one camera": (tree("DCIM/alps", "DCIM/bern"), "DCIM/alps DCIM/bern"),
    "a house number": (tree("123_main", "221_bake"), "123_main 221_bake"),
    "one name that is also a month's": (tree("may", "rome", "oslo"), "may oslo rome"),
    "a few numbers that may be years": (tree("1", "2", "3", "4", "5", "1990", "2000"), "1 1990 2 2000 3 4 5"),
}

REFUSED = {
    "photos beside folders": (tree("", "a", "b"), r"3 photos outside of folders, such as 0\.jpg, beside 2 folders"),
    "photos beside folders in a folder": (["x/1.jpg", *tree("x/a", "x/b")], "x contains both photos and folders"),
    "one folder": (tree("a"), "all photos are in one folder, a,"),
    "database and queries": (tree("database", "queries"), "the folder queries beside database is the division"),
    "queries of a version": (tree("database", "queries_v2"), "the folder queries_v2 beside database"),
    "cities": (tree("cph/query/images", "cph/database/images"), "the folder query beside database"),
    "one object in two splits": (tree("train/a", "test/a"), "all photos are of one object, a, in the folders of"),
    "a test among others": (tree("a", "b", "test"), "the folder test is a split"),
    "splits of photos": (tree("train", "test"), "the folders test and train are the splits"),
    "splits beside others": (tree("train/a", "test/a", "more/a"), "the folders test and train are a split"),
    "hashes": ([f"{h[0]}/{h[1]}/{h[2]}/{h}.jpg" for h in HASHES], "folders such as 0/a/b look like the parts"),
    "hashes of other names": (tree("0/a/b", "0/a/c", "1/b/c"), "folders such as 0/a/b look like the parts"),
    "hashes, two levels": (tree("ab/cd", "ef/ab"), "folders such as ab/cd look like the parts"),
    "hashes, backwards": ([f"ims/{h[-2:]}/{h[-4:-2]}/{h[-6:-4]}/{h}" for h in HASHES], "look like the parts of a hash"),
    "hashes, one level": ([f"{h[:2]}/{h}.jpg" for h in HASHES], "folders such as 0a are the first or last"),
    "hashes, all of one level": (tree(*(f"{n:02x}" for n in range(200))), "are all hexadecimal"),
    "first letters": ([f"{n[0]}/{n}.jpg" for n in ("alps", "bern", "bonn", "cern")], "folders such as a are the first"),
    "years": (tree("2018", "2019", "2020"), "the folders 2018, 2019 and 2020 are named after years"),
    "many years": (tree(*map(str, range(1990, 2010))), "1990, 1991, 1992 and 17 more are named after years"),
    "years and months": (tree("2018/12", "2019/01"), "named after years"),
    "months of one year": (tree("2019/07", "2019/08"), "the folders 07 and 08 are named after years"),
    "days of one month": (tree("2019/07/14", "2019/07/15"), "the folders 14 and 15 are named after years"),
    "a date among objects": (tree("a", "b", "c", "2019-07-14"), "the folder 2019-07-14 is named after dates"),
    "a date with a place": (tree("2019-07-14 Rome", "b"), "named after dates"),
    "folders of a telephone": (tree("202301__", "202302_a"), "named after years or dates"),
    "days of a trip": (tree("Day 1", "Day 2"), "numbered parts"),
    "one name in two Unicode forms": (tree("Caf\u00e9", "Cafe\u0301", "x"), "have one name but for case"),
    "dates": (tree("20190714", "20190715"), "named after years or dates"),
    "years with places": (tree("2018 Rome", "2019 Oslo"), "named after years or dates"),
    "objects by year": (tree("rome/2018", "rome/2019", "oslo/2019"), "the folders 2018 and 2019 are named after years"),
    "months": (tree("January", "February", "07 July"), "named after months"),
    "a camera": (tree("100CANON", "101CANON"), "the folders 100CANON and 101CANON are named after a camera"),
    "an app": (tree("rome", "WhatsApp Images"), "the folder WhatsApp Images is named after a camera, an app"),
    "positives and negatives": (tree("positive", "negative"), "the folder negative is of photos of no object"),
    "good photos": (tree("a/good", "a/ok", "b/good"), "the folders good and ok are judgements"),
    "distractors": (tree("a", "b", "distractors"), "the folder distractors is of photos of no object"),
    "views": (tree("left", "right"), "views, conditions or versions"),
    "sketches": (tree("photos/a", "photos/b", "sketches"), "photos and sketches are views"),
    "seasons": (tree("summer", "winter"), "views, conditions or versions"),
    "parts": (tree("part1", "part2"), "numbered parts"),
    "sequences of scenes": (tree("chess/seq-01", "chess/seq-02", "fire/seq-01"), "numbered parts"),
    "photographers of landmarks": (tree("a/anna", "a/bob", "b/anna"), "2 folders are named anna: a/anna and b/anna"),
    "copies": (tree("photos/a", "photos/b", "small/a", "small/b"), "photos and small are views"),
    "copies of one name": (tree("mine/a", "hers/a", "hers/b"), "2 folders are named a: hers/a and mine/a"),
    "details": (tree("a", "a/details", "b"), "a contains both photos and folders of photos, such as a/details"),
    "one name in capitals too": (tree("Rome", "rome", "oslo"), "the folders Rome and rome have one name but for case"),
    "a copied folder": (tree("Rome", "Rome (2)", "oslo"), r"the folders Rome and Rome \(2\) have one name"),
    "one place in two years": (tree("Rome 2018", "Rome 2019", "x"), "Rome 2018 and Rome 2019 have one name"),
}  # fmt: skip


@pytest.mark.parametrize("name", OBJECTS)
def test_folders_that_are_objects(name):
    names, expected = OBJECTS[name]
    found = find_objects(names, "PHOTOS")
    assert " ".join(found.photos) == expected
    assert sorted(photo for photos in found.photos.values() for photo in photos) == sorted(names)
    first = next(iter(found.photos))
    assert found.account.startswith(f"PHOTOS: {len(found.photos)} objects, ")
    assert f"the first: {first} ({len(found.photos[first])} photos)" in found.account


@pytest.mark.parametrize("name", REFUSED)
def test_folders_that_may_not_be_objects_are_refused_and_the_option_decides(name):
    names, message = REFUSED[name]
    with pytest.raises(ObjectFoldersError, match=message) as caught:
        find_objects(names, "PHOTOS")
    if caught.match("--objects"):
        rules = [rule for rule in RULES if f" {rule} (" in str(caught.value)]
        assert rules
        for rule in rules:
            found = find_objects(names, "PHOTOS", rule)
            assert found.rule == rule
            assert sum(map(len, found.photos.values())) + len(found.outside) == len(names)


def test_each_rule():
    names = ["0.jpg", *tree("set/train/a", "set/test/a", "set/train/b/c", photos=2)]
    expected = {
        "folders": {"set/test/a": 2, "set/train/a": 2, "set/train/b/c": 2},
        "splits": {"set/a": 4, "set/b/c": 2},
        "names": {"a": 4, "c": 2},
        "top": {"set/test": 2, "set/train": 4},
    }
    for rule, counts in expected.items():
        found = find_objects(names, "PHOTOS", rule)
        assert {one: len(photos) for one, photos in found.photos.items()} == counts
        assert found.outside == ["0.jpg"]
        assert "1 photo outside of folders left out" in found.account
        assert "0.jpg" not in found.of_photo


def test_what_was_taken_is_said():
    account = find_objects([*tree("europe/alps", "europe/bern", "asia/fuji"), "asia/aso/1.jpg"], "PHOTOS").account
    assert account == (
        "PHOTOS: 4 objects, each folder with photos is one; the first: asia/aso (1 photo); --objects top would take "
        "the 2 folders at the first level; 1 of them with one photo only"
    )
    account = find_objects(tree("train/a", "test/a", "val/b"), "PHOTOS").account
    assert (
        account == "PHOTOS: 2 objects, folders of the same path in test, train and val are one; the first: a (6 photos)"
    )


def test_photos_without_folders_have_no_objects_by_any_rule():
    for rule in RULES:
        with pytest.raises(ObjectFoldersError, match="PHOTOS has no sub-folders with photos"):
            find_objects(tree(""), "PHOTOS", rule)


def test_pairs_need_two_photos_of_one_object():
    with pytest.raises(ObjectFoldersError, match="each of the 3 objects has one photo only"):
        find_objects(tree("a", "b", "c", photos=1), "PHOTOS")
    with pytest.raises(ObjectFoldersError, match=r"each of the 3 objects has one photo only.*: top \(.*: 2 objects\)"):
        find_objects(["x/a/1.jpg", "x/b/1.jpg", "y/c/1.jpg"], "PHOTOS", "folders")
    assert len(find_objects(tree("a", "b", photos=1), "PHOTOS", pairs=False).photos) == 2


def test_one_object_is_accepted_where_one_is_enough():
    assert list(find_objects(tree("a"), "PHOTOS", least=1).photos) == ["a"]
    assert list(find_objects(tree("a"), "PHOTOS", "folders").photos) == ["a"]
