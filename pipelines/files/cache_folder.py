"""The folder for what is remembered between runs: the user's cache folder, or one that a variable names."""

import os
from pathlib import Path

CACHE_VARIABLE = "KERAS_RETRIEVAL_CACHE"
"""The environment variable that names another cache folder; if it is empty, nothing is remembered."""


def cache_folder() -> Path | None:
    """Returns the cache folder of the user, or None if nothing is to be remembered."""
    given = os.environ.get(CACHE_VARIABLE)
    if given is not None:
        return Path(os.path.expanduser(given)) if given else None  # noqa: PTH111 - Path's raises for an unknown user
    from platformdirs import user_cache_path

    try:
        return user_cache_path("keras-retrieval")
    except RuntimeError:  # a user without a home, as in a container
        return None
