"""Metrics of a server in Prometheus' text format: those of TensorFlow Serving under its names, and some of our own.

As in TensorFlow Serving, latencies are those of successful requests, and values that equal a bound of a histogram's
buckets are counted above it.
"""

import bisect
import threading
from collections.abc import Callable, Iterator, Mapping

PREFIX = ":tensorflow:serving:"
REQUEST_COUNT = PREFIX + "request_count"
REQUEST_LATENCY = PREFIX + "request_latency"
RUNTIME_LATENCY = PREFIX + "runtime_latency"
EXAMPLE_COUNT = PREFIX + "request_example_count_total"
EXAMPLE_COUNTS = PREFIX + "request_example_counts"
REQUEST_LOG_COUNT = PREFIX + "request_log_count"
WARM_UP_LATENCY = PREFIX + "model_warmup_latency"
WARM_UP_RECORDS = PREFIX + "model_warmup_records_read"
RUN_COUNT = PREFIX + "batching_session:wrapped_run_count"
QUEUING_LATENCY = PREFIX + "batching_session:queuing_latency"
INPUT_BATCH_SIZE = PREFIX + "batching_session:input_batch_size"
PROCESSED_BATCH_SIZE = PREFIX + "batching_session:processed_batch_size"
PADDING_SIZE = PREFIX + "batching_session:padding_size"

QUEUE_LENGTH = "keras_retrieval_queue_length"  # by which replicas are scaled
IN_FLIGHT = "keras_retrieval_requests_in_flight"
READY = "keras_retrieval_ready"
INDEX_BUILD = "keras_retrieval_index_build"
INDEX_PHOTOS = "keras_retrieval_index_photos"
INDEX_OUTDATED = "keras_retrieval_index_outdated"
INDEX_LOADED = "keras_retrieval_index_loaded_timestamp_seconds"
INDEX_LOADS = "keras_retrieval_index_loads_total"
INDEX_FAILURES = "keras_retrieval_index_failures_total"
OWN = {
    QUEUE_LENGTH: "Requests that wait for their computation or their batch.",
    IN_FLIGHT: "Requests that wait or are being computed.",
    READY: "1 if the server is ready, as /readyz says.",
    INDEX_BUILD: "Number of the build of the index that is searched, that of its segment.",
    INDEX_PHOTOS: "Photos that are searched.",
    INDEX_OUTDATED: "1 if the newest photos of the index cannot be read, so that older ones are searched.",
    INDEX_LOADED: "When the build of the index that is searched was loaded, in seconds since 1970.",
    INDEX_LOADS: "Builds of the index that were loaded since the start.",
    INDEX_FAILURES: "Attempts to load a build of the index, or to read its changes, that failed.",
}
"""Metrics of our own, which are read when the page is asked for, and what they say."""

METRICS_PATH = "/monitoring/prometheus/metrics"  # on the REST port, unless a MonitoringConfig names another path
LOAD_ATTEMPTS = ":tensorflow:cc:saved_model:load_attempt_count"
LOAD_LATENCY = ":tensorflow:cc:saved_model:load_latency"  # the sum of all loads, in microseconds
COUNTERS = (
    REQUEST_COUNT,
    EXAMPLE_COUNT,
    REQUEST_LOG_COUNT,
    WARM_UP_RECORDS,
    RUN_COUNT,
    LOAD_ATTEMPTS,
    LOAD_LATENCY,
)


def _bounds(scale: float, growth: float, count: int) -> tuple[float, ...]:
    return tuple(scale * growth**power for power in range(count))


LATENCY_BOUNDS = _bounds(10, 1.8, 33)  # microseconds, up to about 20 minutes
BOUNDS = {
    REQUEST_LATENCY: LATENCY_BOUNDS,
    RUNTIME_LATENCY: LATENCY_BOUNDS,
    WARM_UP_LATENCY: LATENCY_BOUNDS,
    EXAMPLE_COUNTS: _bounds(1, 2, 15),
    QUEUING_LATENCY: _bounds(100, 1.2, 52),
    INPUT_BATCH_SIZE: _bounds(1, 2, 20),
    PROCESSED_BATCH_SIZE: _bounds(1, 2, 20),
    PADDING_SIZE: _bounds(1, 2, 14),
}
"""Bounds of the buckets of each histogram."""

Labels = tuple[tuple[str, str], ...]


class Histogram:
    """A histogram of values.

    Args:
        bounds: upper bounds of the buckets, ascending.

    Attributes:
        bounds: upper bounds of the buckets.
        counts: number of values in each bucket; the last bucket has no upper bound.
        sum: sum of all values.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect.bisect_right(self.bounds, value)] += 1
        self.sum += value


class Metrics:
    """The counters and histograms of a server. Several threads may use one object."""

    def __init__(self) -> None:
        self._counters: dict[str, dict[Labels, int]] = {name: {} for name in COUNTERS}
        self._histograms: dict[str, dict[Labels, Histogram]] = {name: {} for name in BOUNDS}
        self._read: list[Callable[[], Mapping[str, float]]] = []
        self._lock = threading.Lock()

    def watch(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Adds metrics of our own to the page.

        Args:
            read: function that returns their present values, by names of OWN.
        """
        self._read.append(read)

    def count(self, name: str, number: int = 1, /, **labels: str) -> None:
        """Increases a counter for one combination of label values.

        Args:
            name: name of the counter, one of COUNTERS.
            number: the increase.
            **labels: value of each label, by label name.
        """
        with self._lock:
            cells, key = self._counters[name], tuple(labels.items())
            cells[key] = cells.get(key, 0) + number

    def time(self, name: str, seconds: float, /, **labels: str) -> None:
        """Adds a duration to a histogram of microseconds; see `add`.

        Args:
            name: name of the histogram.
            seconds: the duration in seconds.
            **labels: value of each label.
        """
        self.add(name, int(seconds * 1e6), **labels)

    def add(self, name: str, value: float, /, **labels: str) -> None:
        """Adds a value to a histogram for one combination of label values.

        Args:
            name: name of the histogram, one of BOUNDS.
            value: the value.
            **labels: value of each label, by label name.
        """
        with self._lock:
            self._histograms[name].setdefault(tuple(labels.items()), Histogram(BOUNDS[name])).add(value)

    def first_count(self, name: str) -> int:
        """Returns the value of a counter for its first combination of label values, in alphabetical order.

        Args:
            name: TensorFlow's name of the counter, such as "/tensorflow/serving/request_count".

        Returns:
            The value; 0 if there is no such counter or it has not been increased.
        """
        with self._lock:
            cells = self._counters.get(name.replace("/", ":"), {})
            return cells[min(cells)] if cells else 0

    def page(self) -> str:
        """Returns all metrics in Prometheus' text format."""
        own = [line for read in self._read for name, value in read().items() for line in _own_lines(name, value)]
        with self._lock:
            return "\n".join([*self._lines(), *own]) + "\n"

    def _lines(self) -> Iterator[str]:
        for name in sorted([*self._counters, *self._histograms]):
            if name in self._counters:
                yield f"# TYPE {name} counter"
                yield from (f"{name}{{{_text(labels)}}} {count}" for labels, count in self._counters[name].items())
            else:
                yield f"# TYPE {name} histogram"
                for labels, histogram in self._histograms[name].items():
                    yield from _histogram_lines(name, _text(labels), histogram)


def _own_lines(name: str, value: float) -> Iterator[str]:
    yield f"# HELP {name} {OWN[name]}"
    yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
    yield f"{name} {value:.17g}"


def _histogram_lines(name: str, labels: str, histogram: Histogram) -> Iterator[str]:
    total, separator = 0, "," if labels else ""
    for bound, count in zip([*map("{:g}".format, histogram.bounds), "+Inf"], histogram.counts, strict=True):
        total += count
        yield f'{name}_bucket{{{labels}{separator}le="{bound}"}} {total}'
    yield f"{name}_sum{{{labels}}} {histogram.sum:g}"
    yield f"{name}_count{{{labels}}} {total}"


def _text(labels: Labels) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
