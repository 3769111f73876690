"""Mining at the beginning of each epoch of `fit`, and between its steps."""

import numpy as np
import pytest

from pipelines.descriptors.describer import describer
from pipelines.training.mining_callback import mining_callback
from tests.helpers.small import network
from tests.helpers.small_epochs import (
    describing,
    draw_scenes,
    make_draw,
    stream_of,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return draw_scenes(tmp_path_factory.mktemp("photos"))


class Rows:
    """Keeps what the callback adds to each epoch's logs, and the tuples that were trained on."""

    def __init__(self, draw):
        from keras.callbacks import LambdaCallback

        self.tuples = []
        self.callback = LambdaCallback(on_epoch_end=lambda epoch, logs: self.tuples.append(draw.tuples))


@pytest.mark.parametrize("form", ["exact", "refreshed", pytest.param("padded", marks=pytest.mark.long)])
def test_fit_trains_on_it_and_mines_each_epoch(folder, form):
    import keras

    from keras_retrieval import losses
    from pipelines.training.chunked_model import ChunkedTupleModel

    small = network()
    draw = make_draw(folder, queries=60, refresh=2 if form == "refreshed" else 0)
    stream = stream_of(draw, padded=form != "exact")
    model = ChunkedTupleModel(small, keep_descriptors=True)
    model.compile(optimizer=keras.optimizers.Adam(0.05), loss=losses.ContrastiveLoss(margin=0.7))
    seen, before = Rows(draw), small.get_weights()
    last_step = model.last_step if form == "refreshed" else None
    callbacks = [mining_callback(draw, describer(small), last_step), seen.callback]
    history = model.fit(stream.dataset(), epochs=2, verbose=0, callbacks=callbacks).history
    assert any((one != other).any() for one, other in zip(before, small.get_weights(), strict=True))
    assert np.isfinite(history["loss"]).all()
    assert all(0 < share <= 1 for share in history["mining_share"])
    assert history["negative_distance"][1] == pytest.approx(draw.distances.mean())
    assert (seen.tuples[0][:, :2] != seen.tuples[1][:, :2]).any()
    assert (draw.epoch, draw.trained) == (1, True)


def test_an_epoch_mined_by_hand_is_not_mined_again(folder):
    draw, counted = make_draw(folder), []

    def counting(images):
        counted.append(len(images))
        return describing()(images)

    callback = mining_callback(draw, counting)
    draw.mine(describing(), 0)
    callback.on_epoch_begin(0)
    assert not counted
    callback.on_epoch_end(0, {})
    callback.on_epoch_begin(0)
    assert counted
