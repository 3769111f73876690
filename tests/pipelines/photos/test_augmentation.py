"""Augmentation: factors computed by hand, invariants, and reproducible random changes."""

import numpy as np
import pytest

from pipelines.photos.augmentation import Augmentation, jitter, zoomed

PIXELS = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)


def by_hand(pixels, brightness, contrast, saturation):
    grey = [0.299, 0.587, 0.114]
    x = pixels.astype(float) * brightness
    mean = np.mean([sum(g * c for g, c in zip(grey, pixel, strict=True)) for pixel in x.reshape(-1, 3)])
    x = mean + contrast * (x - mean)
    for row in x:
        for pixel in row:
            luma = sum(g * c for g, c in zip(grey, pixel, strict=True))
            pixel[:] = [luma + saturation * (c - luma) for c in pixel]
    return np.clip(np.round(x), 0, 255)


@pytest.mark.parametrize("strength", [0.05, 0.3, 1.0])
def test_it_is_brightness_contrast_and_saturation(strength):
    factors = np.random.default_rng(7).uniform(1 - strength, 1 + strength, 3)
    found = jitter(PIXELS, strength, np.random.default_rng(7))
    assert found.dtype == np.uint8
    np.testing.assert_allclose(found, by_hand(PIXELS, *factors), atol=1)


def test_strength_zero_changes_nothing():
    np.testing.assert_array_equal(jitter(PIXELS, 0.0, np.random.default_rng(0)), PIXELS)


def test_the_draw_decides():
    one, same, other = (jitter(PIXELS, 0.3, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert (one != other).mean() > 0.5


def test_a_zoom_crops_or_shrinks_within_its_bounds():
    photo = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    windows = np.lib.stride_tricks.sliding_window_view(photo[..., 0], (1, 8))
    cropped = shares = 0
    for seed in range(40):
        found = zoomed(photo, 0.5, np.random.default_rng(seed))
        height, width = found.shape[:2]
        assert 100 <= height <= 200
        assert 150 <= width <= 300
        assert abs(width / height - 1.5) < 0.02
        shares += width / 300
        cropped += bool((windows[:, :, 0] == found[0, :8, 0]).all(-1).any())
    assert 10 <= cropped <= 30
    assert 0.65 <= shares / 40 <= 0.85


def test_a_small_photo_stays_large_enough_for_a_trunk():
    photo = np.zeros((100, 60, 3), np.uint8)
    for seed in range(10):
        height, width = zoomed(photo, 0.1, np.random.default_rng(seed)).shape[:2]
        assert 96 <= height <= 100
        assert width == 60


def test_both_are_drawn_for_each_photo():
    photo = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    change = Augmentation(0.3, 0.5)
    np.testing.assert_array_equal(change(photo, np.random.default_rng(3)), change(photo, np.random.default_rng(3)))
    assert change(photo, np.random.default_rng(4)).shape != change(photo, np.random.default_rng(3)).shape
    np.testing.assert_array_equal(Augmentation()(photo, np.random.default_rng(0)), photo)


def test_a_tuple_is_mirrored_as_a_whole_or_not_at_all():
    photos = [np.random.default_rng(seed).integers(0, 256, (9, 12 + seed, 3), np.uint8) for seed in range(4)]
    mirrored = 0
    for seed in range(60):
        found = Augmentation(flip=True).of_tuple(photos, [5, seed])
        turned = {(one == photo[:, ::-1]).all() for one, photo in zip(found, photos, strict=True)}
        assert turned == {not (found[0] == photos[0]).all()}
        mirrored += turned == {True}
    assert 20 <= mirrored <= 40


def test_half_of_the_queries_become_binary_at_a_strength_of_their_own():
    query = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    change = Augmentation(binarize=0.2)
    strengths = []
    for seed in range(80):
        found, *others = change.of_tuple([query, query, query], [seed])
        assert all((other == query).all() for other in others)
        if (found == query).all():
            continue
        assert set(np.unique(found)) == {0, 255}
        weakest = int(np.argmax(found[0, :, 0] == 255))
        assert (found[0, weakest:] == 255).all()
        strengths.append((weakest - 1) / 255)
    assert 25 <= len(strengths) <= 55
    assert 0 <= min(strengths) < 0.04 < 0.16 < max(strengths) <= 0.2


def test_a_tuple_s_photos_change_each_in_its_own_way_and_again_alike():
    photo = np.random.default_rng(1).integers(0, 256, (200, 300, 3), np.uint8)
    one, again = (Augmentation(0.3, 0.5, True, 0.2).of_tuple([photo, photo], [3, 1]) for _ in range(2))
    for first, second in zip(one, again, strict=True):
        np.testing.assert_array_equal(first, second)
    assert one[0].shape != one[1].shape
    for photo_, expected in zip(Augmentation(0.3).of_tuple([photo, photo], [7]), (0, 1), strict=True):
        np.testing.assert_array_equal(photo_, Augmentation(0.3)(photo, np.random.default_rng([7, expected])))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((1.5, 1), r"strength .* must be in 0\.\.1, got 1\.5"),
        ((0, 0), r"zoom .* 0\.1\.\.1, got 0"),
        ((0, 1, True, 1.5), r"binarised edges must be in 0\.\.1, got 1\.5"),
    ],
)
def test_what_cannot_be_meant_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(*options)
