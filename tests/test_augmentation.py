"""Photometric augmentation: the factors by hand, what it may not change, and repeatable draws."""

import numpy as np
import pytest

from pipelines.augmentation import jitter

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
    with pytest.raises(ValueError, match=r"lies in 0\.\.1, not 1\.5"):
        jitter(PIXELS, 1.5, np.random.default_rng(0))
