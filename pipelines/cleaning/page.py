"""The HTML page of `clean`: for each landmark the photos that are kept, with boxes, then those that are left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..pages.rankings import Case, Hit, Mark, Picture, page
from .landmark import Landmark

MOST_LANDMARKS = 200  # maximum number of landmarks on the page
MOST_PHOTOS = 20  # maximum number of kept photos, and of left-out photos, of each landmark on the page
LEGEND = "✓ green: kept, with the landmark's box · ✗ red: left out"


def cleaning_page(landmarks: Sequence[Landmark], photos: Path, options: Mapping[str, Any]) -> str:
    """Returns the HTML page of a cleaning run.

    Args:
        landmarks: the results for all landmarks.
        photos: folder of the photos.
        options: dict of the options of the run, of which "min_inliers" is used.

    Returns:
        A self-contained HTML document without scripts.
    """
    kept, left_out = (sum(len(getattr(landmark, part)) for landmark in landmarks) for part in ("kept", "left_out"))
    facts = [
        f"{kept:,} of {kept + left_out:,} photos kept",
        f"{sum(1 for landmark in landmarks if landmark.kept):,} of {len(landmarks):,} landmarks",
        f"a pair is verified by {options['min_inliers']} matches or more",
    ]
    if len(landmarks) > MOST_LANDMARKS:
        facts.append(f"the first {MOST_LANDMARKS} landmarks are shown")
    cases = [_case(landmark, photos) for landmark in landmarks[:MOST_LANDMARKS]]
    return page("cleaning", "Landmarks, cleaned", facts, cases=cases, legend=LEGEND)


def _case(landmark: Landmark, photos: Path) -> Case:
    def picture(name: str) -> Picture:
        left, top, right, bottom = landmark.boxes.get(name, (0, 0, 0, 0))
        return Picture(photos / name, box=(left, top, right, bottom) if right else None)

    shown: list[tuple[str, Mark]] = [(name, "right") for name in landmark.kept[:MOST_PHOTOS]]
    shown += [(name, "wrong") for name in list(landmark.left_out)[:MOST_PHOTOS]]
    reasons = Counter(landmark.left_out.values())
    counts = [f"{landmark.name}: {len(landmark.kept)} kept, {landmark.verified} of {landmark.pairs} pairs verified"]
    counts += [f"{count} left out: {reason}" for reason, count in reasons.most_common()]
    return Case(picture(shown[0][0]), " · ".join(counts), [Hit(picture(name), mark) for name, mark in shown])
