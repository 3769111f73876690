"""Metrics of a server in Prometheus' text format, with the names that TensorFlow Serving uses."""

import bisect
import threading
from collections.abc import Iterator

REQUEST_COUNT = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
RUNTIME_LATENCY = ":tensorflow:serving:runtime_latency"
METRICS_PATH = "/monitoring/prometheus/metrics"  # on the REST port, unless a MonitoringConfig names another path
BOUNDS = tuple(10 * 1.8**power for power in range(33))  # upper bounds in microseconds, up to about 20 minutes

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """A histogram of durations in microseconds, with the upper bucket bounds BOUNDS.

    Attributes:
        counts: number of values in each bucket; the last bucket has no upper bound.
        sum: sum of all values.
    """

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Adds a value in microseconds."""
        self.counts[bisect.bisect_left(BOUNDS, value)] += 1
        self.sum += value


class Metrics:
    """The request counters and latency histograms of a server. Several threads may use one object."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, int]] = {REQUEST_COUNT: {}}
        self._histograms: dict[str, dict[Labels, Histogram]] = {REQUEST_LATENCY: {}, RUNTIME_LATENCY: {}}
        self._lock = threading.Lock()

    def count(self, name: str, **labels: str) -> None:
        """Increments a counter for one combination of label values.

        Args:
            name: name of the counter, REQUEST_COUNT.
            **labels: value of each label, by label name.
        """
        with self._lock:
            cells, key = self._counters[name], tuple(labels.items())
            cells[key] = cells.get(key, 0) + 1

    def time(self, name: str, seconds: float, **labels: str) -> None:
        """Adds a duration to the histogram `name` for one combination of label values.

        Args:
            name: name of the metric, REQUEST_LATENCY or RUNTIME_LATENCY.
            seconds: the duration in seconds; the histogram is in microseconds.
            **labels: value of each label.
        """
        with self._lock:
            self._histograms[name].setdefault(tuple(labels.items()), Histogram()).add(seconds * 1e6)

    def page(self) -> str:
        """Returns all metrics in Prometheus' text format."""
        with self._lock:
            return "\n".join([*self._lines()]) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, counts in self._counters.items():
            yield f"# TYPE {name} counter"
            yield from (f"{name}{{{_text(labels)}}} {count}" for labels, count in counts.items())
        for name, histograms in self._histograms.items():
            yield f"# TYPE {name} histogram"
            for labels, histogram in histograms.items():
                yield from _histogram_lines(name, _text(labels), histogram)


def _histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    total = 0
    for bound, count in zip([*map("{:g}".format, BOUNDS), "+Inf"], histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {histogram.sum:g}"
    yield f"{name}_count{{{labels}}} {total}"


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
