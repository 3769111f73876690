"""The command `app` whose network is a function of NumPy: `python -m tests.helpers.app_process PHOTOS ..`."""

import sys

from keras_retrieval.export.collection import generation
from keras_retrieval.export.collection.network import LoadedNetwork

from keras_retrieval.__main__ import main
from tests.helpers.small_collection import mean_colours

if __name__ == "__main__":
    setattr(generation, "load_network", lambda model, size, *_: LoadedNetwork(mean_colours, 1, size))  # noqa: B010
    main(["app", *sys.argv[1:]])
