"""Opens the calibration of an index by the options --calibration and --min-probability."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_retrieval.pipelines.local_features.matchers import MUTUAL, matcher_identity

from ..index_contract.answers import Answers, open_answers
from ..index_contract.calibration import file_name
from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus


def extractor_of(local: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what the local features of a calibration and of an index must have in common.

    Args:
        local: how local features were made, `FeatureSource.facts`.
    """
    return {"sha256": local["extractor"]["sha256"], "size": local["size"], "features": local["features"]}


def open_calibration(
    index: NeighbourIndex,
    place: str | Path,
    given: Path | None,
    min_probability: float = 0.0,
    *,
    label: str = "--min-probability",
    local: Mapping[str, Any] | None = None,
    matcher: str = MUTUAL,
) -> Answers | None:
    """Opens the calibration of an index, if it has one.

    Args:
        index: the open index.
        place: its folder, or the address of a collection, which has no calibration of its own.
        given: the value of --calibration; None for the file in the folder.
        min_probability: the value of --min-probability. Above 0, a calibration is needed.
        label: the name of that option.
        local: how the local features were made that will be compared, `FeatureSource.facts`; None for none.
        matcher: the value of --matcher; each matcher has a calibration of its own.

    Returns:
        None without a calibration, or with one of another network, which is logged.

    Raises:
        CalibrationError: see `open_answers`.
    """
    identity = matcher_identity(matcher)
    file = given or (None if is_milvus(place) else Path(place) / file_name(identity))
    return open_answers(
        index,
        str(place),
        file,
        min_probability,
        needed=given is not None,
        label=label,
        local=None if local is None else extractor_of(local),
        matcher=identity,
        again="" if matcher == MUTUAL else f" --matcher {matcher}",
    )
