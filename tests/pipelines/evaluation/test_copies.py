import json

import numpy as np
import pytest

from pipelines.evaluation.copies import copies_in_database
from pipelines.evaluation.ground_truth import GroundTruth
from tests.helpers.copied_photos import CHANGES, save, scene


@pytest.fixture
def photos(tmp_path):
    for seed in range(4):
        save(tmp_path, f"{seed}.jpg", scene(seed, 160, 120), quality=92)
    save(tmp_path, "copy.jpg", CHANGES["resized"](scene(0, 160, 120)), quality=70)
    save(tmp_path, "query-copy.jpg", CHANGES["mirrored"](scene(1, 160, 120)), quality=70)
    return tmp_path


def truth(database, queries, **options):
    return GroundTruth("some", "map", database, queries, [np.array([0])] * len(queries), **options)


@pytest.mark.parametrize("drop_query", [True, False])
def test_copies_besides_the_query_itself_count(photos, drop_query):
    database = ["0.jpg", "1.jpg", "2.jpg", "copy.jpg"]
    found = copies_in_database(truth(database, ["0.jpg", "1.jpg", "2.jpg"], drop_query=drop_query), photos)
    assert found == {"0.jpg": ["copy.jpg"]}


def test_a_query_outside_the_database_counts(photos):
    found = copies_in_database(truth(["0.jpg", "1.jpg", "2.jpg"], ["query-copy.jpg", "3.jpg"]), photos)
    assert json.dumps(found) == '{"query-copy.jpg": ["1.jpg"]}'
