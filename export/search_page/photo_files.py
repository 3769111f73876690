"""Finds the files of photos by their names, and nothing else in or outside the folder."""

from pathlib import Path, PurePosixPath

from keras_retrieval.pipelines.files.stored_path import stored_path

from .source import PhotoSource


class PhotoFiles:
    """The files of a collection's photos.

    Args:
        source: the collection.
    """

    def __init__(self, source: PhotoSource) -> None:
        self._source = source

    def path(self, name: str) -> Path | None:
        """Finds the file of a photo.

        Args:
            name: name of the photo as a client sent it.

        Returns:
            The path, without links; None if the catalogue does not contain the name, or if the file does not exist, is
            not a regular file or, after links are followed, is outside the photo folder. The intake follows links out
            of the folder: such photos can be found, but are not shown.
        """
        if name not in self._source.catalogue().row_of:
            return None
        parts = PurePosixPath(name)
        if not name or "\0" in name or parts.is_absolute() or ".." in parts.parts:
            return None
        try:
            folder = self._source.folder.resolve()
            path = stored_path(folder / name).resolve()
            return path if path.is_relative_to(folder) and path.is_file() else None
        except (OSError, ValueError):
            return None
