"""The page of a reconstruction: each cluster's photos, figures and plan, in one file that opens from the disk."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from PIL import Image

from ..photos.reader import PhotoError, read_photo
from .colmap import colmap_name
from .plan_view import plan_view, read_scene
from .report import points_and_error

THUMBNAIL = 112  # pixels of the longer side
MOST_CLUSTERS = 200
MOST_PHOTOS = 60  # of a cluster
MOST_NAMES = 40  # of the photos left out for one reason

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Reconstruction</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1180px; padding: 0 1rem; color: #222; }}
h1 {{ font-size: 1.5rem; margin: 0 0 .3rem; }}
h2 {{ font-size: 1.1rem; margin: 0 0 .2rem; }}
.facts, .note {{ color: #666; margin: .1rem 0; }}
.facts span + span::before {{ content: " · "; }}
table {{ border-collapse: collapse; margin: 1rem 0 2rem; }}
th, td {{ text-align: right; padding: .2rem .8rem; border-bottom: 1px solid #e4e4e0; }}
td {{ font-variant-numeric: tabular-nums; }}
th:last-child, td:last-child {{ text-align: left; }}
section {{ border-top: 1px solid #d8d8d4; padding: 1.2rem 0; }}
section {{ display: grid; grid-template-columns: 440px 1fr; gap: 1.2rem; }}
section > header {{ grid-column: 1 / -1; }}
.plan {{ display: block; border: 1px solid #e4e4e0; margin-bottom: .6rem; max-width: 100%; }}
.photos {{ display: flex; flex-wrap: wrap; gap: 4px; align-content: flex-start; }}
.photos img {{ height: 84px; display: block; }}
.left {{ grid-column: 1 / -1; font-size: .9rem; }}
code {{ font-size: .88em; }}
@media (max-width: 800px) {{ section {{ grid-template-columns: 1fr; }} }}
</style>
<h1>Reconstruction</h1>
<p class="facts">{facts}</p>
<table>
<tr><th>cluster</th><th>photos</th><th>left out</th><th>models</th>
<th>points</th><th>error</th><th>may show the same as</th></tr>
{table}
</table>
{sections}
{left_out}
</html>
"""


def page(report: Mapping[str, Any], work: Path) -> str:
    """Writes the page.

    Args:
        report: from `make_report`, with photos, rounds and seconds.
        work: the folder of the reconstruction, with the models and the images.

    Returns:
        HTML without scripts and without anything to load.
    """
    clusters = report["clusters"]
    sections = [_section(number, cluster, work) for number, cluster in enumerate(clusters[:MOST_CLUSTERS])]
    if len(clusters) > MOST_CLUSTERS:
        sections.append(f"<p>{len(clusters) - MOST_CLUSTERS} more clusters are in report.json.</p>")
    return _PAGE.format(
        facts="".join(f"<span>{html.escape(fact)}</span>" for fact in _facts(report)),
        table="\n".join(_row(number, cluster, report) for number, cluster in enumerate(clusters)),
        sections="\n".join(sections),
        left_out=_nowhere(report),
    )


def _facts(report: Mapping[str, Any]) -> list[str]:
    pairs, options = report["pairs"], report["options"]
    placed = sum(len(cluster["photos"]) for cluster in report["clusters"])
    proposed = ", ".join(f"{entry['pairs']} by {entry['by']}" for entry in report["rounds"] if entry["pairs"])
    seconds = sum(report["seconds"].values())
    return [
        f"{placed} of {report['photo_count']} photos in {len(report['clusters'])} clusters",
        f"{pairs['tried']:,} of {pairs['all']:,} pairs tried ({pairs['tried'] / max(1, pairs['all']):.1%})",
        f"{pairs['verified']:,} verified",
        f"candidates by {options['pairs']}, k = {options['neighbours']}: {proposed}",
        f"{seconds:,.0f} s in finished runs",
    ]


def _row(number: int, cluster: Mapping[str, Any], report: Mapping[str, Any]) -> str:
    points, error = points_and_error(cluster)
    same = [pair[0] + pair[1] - number for pair in report["same_object"] if number in pair]
    cells = [
        f'<a href="#cluster-{number}">{number}</a>' if number < MOST_CLUSTERS else str(number),
        f"{len(cluster['photos'])}",
        f"{len(cluster['left_out'])}",
        f"{len(cluster['models'])}",
        f"{points:,}",
        f"{error:.2f} px",
        ", ".join(map(str, same)),
    ]
    return f"<tr>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"


def _section(number: int, cluster: Mapping[str, Any], work: Path) -> str:
    points, error = points_and_error(cluster)
    photos = cluster["photos"]
    more = f"<p>and {len(photos) - MOST_PHOTOS} more</p>" if len(photos) > MOST_PHOTOS else ""
    return (
        f'<section id="cluster-{number}"><header><h2>Cluster {number}</h2>'
        f'<p class="facts"><span>{len(photos)} photos</span><span>{points:,} points</span>'
        f"<span>reprojection error {error:.2f} px</span></p></header>\n"
        f"<div>{''.join(_plan(model, work) for model in cluster['models'])}</div>\n"
        f'<div class="photos">{"".join(_thumbnail(name, work) for name in photos[:MOST_PHOTOS])}{more}</div>\n'
        f"{_left_out(cluster['left_out'])}</section>"
    )


def _plan(model: Mapping[str, Any], work: Path) -> str:
    picture = plan_view(read_scene(work / model["folder"]))
    note = f"{len(model['photos'])} cameras from above · <code>{html.escape(model['folder'])}</code>"
    drawn = f'<img class="plan" src="{_data(picture, "PNG")}" alt="cameras and points from above">'
    return f'{drawn}<p class="note">{note}</p>'


def _thumbnail(name: str, work: Path) -> str:
    said = html.escape(name)
    try:
        picture = Image.fromarray(read_photo(work / "images" / colmap_name(name), size=THUMBNAIL))
    except PhotoError:
        return f"<span>{said}</span>"
    return f'<img src="{_data(picture, "JPEG")}" alt="{said}" title="{said}">'


def _data(picture: Image.Image, form: str) -> str:
    file = io.BytesIO()
    picture.save(file, format=form, quality=75, optimize=True)
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def _nowhere(report: Mapping[str, Any]) -> str:
    shown = {name for cluster in report["clusters"] for name in cluster["left_out"]}
    rest = {name: reason for name, reason in report["left_out"].items() if name not in shown}
    return f"<section><header><h2>In no cluster</h2></header>{_left_out(rest)}</section>" if rest else ""


def _left_out(reasons: Mapping[str, str]) -> str:
    lines = []
    by_reason = sorted(reasons.items(), key=lambda item: (item[1], item[0]))
    for reason, group in groupby(by_reason, key=lambda item: item[1]):
        names: Sequence[str] = [name for name, _ in group]
        more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
        listed = ", ".join(f"<code>{html.escape(name)}</code>" for name in names[:MOST_NAMES])
        lines.append(f"<p>{len(names)} left out, {html.escape(reason)}: {listed}{more}</p>")
    return f'<div class="left">{"".join(lines)}</div>' if lines else ""
