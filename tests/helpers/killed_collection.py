"""A process that updates a collection slowly, to be killed: `python -m tests.helpers.killed_collection FOLDER`."""

import sys
import time
from pathlib import Path

from export.collection import describing
from export.collection import generation as generations
from export.collection.network import LoadedNetwork
from tests.helpers.small_collection import mean_colours, opened

if __name__ == "__main__":
    describing.UNIT_SECONDS = 0.0
    describing.FIRST_CHUNK = 1
    describing.CHUNK = 2

    def slowly(images):
        time.sleep(0.01)
        return mean_colours(images)

    setattr(generations, "load_network", lambda model, size, *_: LoadedNetwork(slowly, 1, size))  # noqa: B010
    with opened(Path(sys.argv[1]), size=int(sys.argv[2])) as collection:
        collection.update(lambda work: print(work.done, flush=True))
    print("complete", flush=True)
