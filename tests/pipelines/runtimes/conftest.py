import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of this test alone."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KERAS_RETRIEVAL_CACHE", str(folder))
    monkeypatch.delenv("KERAS_RETRIEVAL_RUNTIME", raising=False)
    return folder
