"""TensorFlow Serving's parameters of dynamic batching, which a server and a version folder can set."""

from dataclasses import dataclass, field

from keras_retrieval.pipelines.files.machine import cores

from keras_retrieval.errors import ArgumentError

THREADS = "batch"  # prefix of the names of threads


@dataclass(frozen=True)
class BatchingParameters:
    """TensorFlow Serving's parameters of dynamic batching, with its default values.

    Args:
        max_batch_size: maximum number of rows in a batch, and in a request.
        batch_timeout_micros: time in microseconds that the first request of a batch waits for further requests.
        max_enqueued_batches: maximum number of waiting batches per version and set of output tensors.
        num_batch_threads: number of batches that are computed concurrently; by default the number of CPU cores.
        allowed_batch_sizes: numbers of rows to which batches are padded, ascending, the last equal to
            `execution_batch_size`; () for no padding.
        pad_variable_length_inputs: whether input tensors of the same rank and different sizes are padded to the
            largest, so that their requests can be merged.
        thread_pool_name: prefix of the names of the threads that compute batches.
        enable_large_batch_splitting: whether a request of more rows than `max_execution_batch_size` is divided among
            several batches.
        max_execution_batch_size: maximum number of rows in a batch if requests are split; None for `max_batch_size`.

    Raises:
        ArgumentError: a parameter is out of range.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = field(default_factory=cores)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    thread_pool_name: str = THREADS
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ArgumentError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise ArgumentError(f"batch_timeout_micros must be at least 0, got {self.batch_timeout_micros}")
        if self.execution_batch_size > self.max_batch_size:
            raise ArgumentError(
                f"max_execution_batch_size must be at most max_batch_size, {self.max_batch_size}, "
                f"got {self.max_execution_batch_size}"
            )
        sizes, largest = self.allowed_batch_sizes, self.execution_batch_size
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != largest):
            name = "max_batch_size" if largest == self.max_batch_size else "max_execution_batch_size"
            raise ArgumentError(f"allowed_batch_sizes must ascend to {name}, {largest}, got {list(sizes)}")

    @property
    def execution_batch_size(self) -> int:
        """The maximum number of rows in a batch."""
        if self.enable_large_batch_splitting and self.max_execution_batch_size is not None:
            return self.max_execution_batch_size
        return self.max_batch_size

    def padded_size(self, rows: int) -> int:
        """Returns the smallest allowed batch size that is at least `rows`; `rows` itself if all sizes are allowed."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)
