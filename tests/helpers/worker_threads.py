"""Workers as threads of one process, for tests of what they do together."""

import threading
from concurrent.futures import ThreadPoolExecutor

from pipelines.training.workers import Workers


def together(work, count=2):
    """Calls `work` with a `Workers` in each of some threads; returns the results in order."""
    sent = [b""] * count
    barrier = threading.Barrier(count, timeout=60)

    def one(index):
        def gather(data):
            sent[index] = data
            barrier.wait()
            received = list(sent)
            barrier.wait()
            return received

        try:
            return work(Workers(index, count, gather))
        except threading.BrokenBarrierError:
            return None  # another thread raises its error
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
