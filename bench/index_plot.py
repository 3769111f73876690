"""Plots the results of bench.index, with one panel per database size and one curve per method."""

from pathlib import Path
from typing import Any

from bench.index_methods import METHODS

COLOURS = {"ScaNN (ours)": "#c2410c", "faiss IVF-PQ": "#1d4ed8", "faiss HNSW": "#0f766e", "Milvus": "#7c3aed"}
GREY = {"numpy": "#374151", "TensorFlow": "#9ca3af"}
SHOWN_FROM = 0.8  # lowest recall on the x axis


def plot(measured: dict[int, dict[str, dict[str, Any]]], path: Path, wanted: float) -> None:
    """Plots queries/s over recall@10 to a PNG file.

    Approximate methods are curves through the settings on their Pareto front, and exact methods are points.

    Args:
        measured: from the number of rows in the database, and from the name of the method, to its measurements, as
            `bench.index.measure` returns them.
        path: the PNG file to write.
        wanted: the required recall in 0..1, at which a vertical line is drawn.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot, ticker

    pyplot.rcParams |= {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}
    figure, axes = pyplot.subplots(1, len(measured), figsize=(5.6 * len(measured), 4.6), sharey=True, squeeze=False)
    for panel, (count, rows) in zip(axes[0], measured.items(), strict=True):
        panel.set(title=f"{count:,} x 512", xlabel="recall@10", yscale="log", xlim=(SHOWN_FROM, 1.006))
        panel.axvline(wanted, color="#d1d5db", linewidth=1, linestyle=(0, (4, 3)), zorder=0)
        panel.grid(axis="y", color="#e5e7eb", zorder=0)
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,.0f}"))
        panel.yaxis.set_minor_formatter(ticker.NullFormatter())
        for method, row in rows.items():
            _draw(panel, method, row["points"])
    axes[0][0].set_ylabel("queries/s, batches of 100")
    # The legend is below the panels, because inside a panel it would cover a curve.
    labels = {line.get_label(): line for panel in axes[0] for line in panel.get_lines() if line.get_label()[0] != "_"}
    figure.legend(
        labels.values(), labels.keys(), loc="lower center", ncols=3 if len(measured) == 1 else 5, frameon=False
    )
    figure.tight_layout(rect=(0, 0.14 if len(measured) == 1 else 0.07, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _draw(panel: Any, method: str, points: list[dict[str, Any]]) -> None:
    if METHODS[method].exact:
        panel.plot(1, points[0]["rate"], "D", color=GREY[method], label=f"{method}, exact", markersize=7, zorder=2)
        return
    best = [point for point in frontier(points) if point["recall"] >= SHOWN_FROM]
    recall, rate = ([point[key] for point in best] for key in ("recall", "rate"))
    ours = method == next(iter(COLOURS))
    panel.plot(
        recall, rate, "o-", color=COLOURS[method], label=method, markersize=4, linewidth=2, zorder=4 if ours else 3
    )


def frontier(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the Pareto front of measurements: those that no other one exceeds in both "recall" and "rate".

    They are in order of decreasing recall.
    """
    found: list[dict[str, Any]] = []
    for point in sorted(points, key=lambda point: (-point["recall"], -point["rate"])):
        if not found or point["rate"] > found[-1]["rate"]:
            found.append(point)
    return found
