"""Opens the calibration of an index by the options --calibration and --min-probability."""

from pathlib import Path

from ..index_contract.answers import Answers, open_answers
from ..index_contract.calibration import FILE
from ..index_contract.contract import NeighbourIndex
from ..milvus_index.address import is_milvus


def open_calibration(
    index: NeighbourIndex,
    place: str | Path,
    given: Path | None,
    min_probability: float = 0.0,
    *,
    label: str = "--min-probability",
) -> Answers | None:
    """Opens the calibration of an index, if it has one.

    Args:
        index: the open index.
        place: its folder, or the address of a collection, which has no calibration of its own.
        given: the value of --calibration; None for the file in the folder.
        min_probability: the value of --min-probability. Above 0, a calibration is needed.
        label: the name of that option.

    Returns:
        None without a calibration, or with one of another network, which is logged.

    Raises:
        CalibrationError: see `open_answers`.
    """
    file = given or (None if is_milvus(place) else Path(place) / FILE)
    return open_answers(index, str(place), file, min_probability, needed=given is not None, label=label)
