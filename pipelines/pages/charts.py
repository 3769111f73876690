"""Curves over the epochs of a run, each chart an SVG element with its own scale."""

import html
import math
from collections.abc import Mapping, Sequence

_COLOURS = ("#2f6fd0", "#d64545", "#2e9e5b", "#8a5cc2")
_LEFT, _TOP, _WIDTH, _HEIGHT = 64, 30, 400, 200


def chart(title: str, lines: Mapping[str, Sequence[float | None]]) -> str:
    """Draws values over epochs, the first of which is 1.

    Args:
        title: above the curves.
        lines: name -> a value per epoch; None and what is not finite is not drawn.

    Returns:
        An SVG element; an empty text where there is no value.
    """
    lines = {name: line for name, line in lines.items() if any(map(_drawn, line))}
    if not lines:
        return ""
    known = [value for line in lines.values() for value in line if value is not None and _drawn(value)]
    ticks = scale(min(known), max(known))
    low, high = ticks[0], ticks[-1]
    last = max(map(len, lines.values()))

    def place(epoch: float, value: float) -> tuple[float, float]:
        return (
            _LEFT + _WIDTH * ((epoch - 1) / (last - 1) if last > 1 else 0.5),
            _TOP + _HEIGHT * (high - value) / (high - low),
        )

    parts = [f'<text x="{_LEFT}" y="16" font-weight="600">{html.escape(title)}</text>']
    parts += [_grid(place(1, value)[1], f"{value:.6g}") for value in ticks]
    parts += [_epoch(place(epoch, low)[0], epoch) for epoch in _epochs(last)]
    parts.append(f'<text x="{_LEFT - 8}" y="{_TOP + _HEIGHT + 18}" text-anchor="end">epoch</text>')
    for number, (name, line) in enumerate(lines.items()):
        points = [
            place(epoch, value) for epoch, value in enumerate(line, start=1) if value is not None and _drawn(value)
        ]
        parts.append(_line(points, _COLOURS[number % len(_COLOURS)], name, number if len(lines) > 1 else None))
    return f'<svg viewBox="0 0 {_LEFT + _WIDTH + 24} {_TOP + _HEIGHT + 30}" role="img">{"".join(parts)}</svg>'


def scale(low: float, high: float) -> list[float]:
    """Round marks of an axis that reach from `low` or below to `high` or above, three of them or more."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        pad = abs(low) or 1.0
        low, high = low - 0.1 * pad, high + 0.1 * pad
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = power * next(factor for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [step * mark for mark in range(first, last + 1)]


def _drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _epochs(last: int) -> list[int]:
    """The epochs with a mark on the axis: all, or every 2nd, 5th, 10th ..."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 10**9) if last / step <= 12)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def _grid(y: float, text: str) -> str:
    return (
        f'<line x1="{_LEFT}" y1="{y:.1f}" x2="{_LEFT + _WIDTH}" y2="{y:.1f}" stroke="#dde1e8"/>'
        f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'
    )


def _epoch(x: float, epoch: int) -> str:
    return f'<text x="{x:.1f}" y="{_TOP + _HEIGHT + 18}" text-anchor="middle">{epoch}</text>'


def _line(points: Sequence[tuple[float, float]], colour: str, name: str, place: int | None) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>' for x, y in points)
    drawn = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'
    if place is None:
        return drawn
    x, y = _LEFT + _WIDTH, 16
    return f'{drawn}<text x="{x - 110 * place}" y="{y}" text-anchor="end" fill="{colour}">{html.escape(name)}</text>'
