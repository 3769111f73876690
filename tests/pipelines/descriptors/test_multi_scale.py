"""The options of multi-scale descriptors."""

import pytest

from pipelines.descriptors.multi_scale import parse_scales


def test_scales_are_read():
    assert parse_scales("1,0.7071, 0.5") == (1.0, 0.7071, 0.5)
    for text in ("", ",", "1;2", "0", "-1", "5", "inf", "nan", "one"):
        with pytest.raises(ValueError, match="--scales"):
            parse_scales(text)
