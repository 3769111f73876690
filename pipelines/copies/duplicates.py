"""The step `duplicates`: finds copies among the photos of a folder, `keras-retrieval duplicates PHOTOS`."""

from pathlib import Path

from ..command.options import takes
from ..files.durable import FolderError, write_file
from ..files.remote import place_text
from ..files.shards import LEFT_OUT, write_left_out
from .file import FILE, write_duplicates
from .find import find_copies
from .options import DuplicatesOptions
from .page import duplicates_page
from .similar_descriptors import similar_by_network

PAGE = "index.html"


@takes(DuplicatesOptions)
def duplicates(options: DuplicatesOptions) -> Path:
    """Finds copies among the photos of a folder. No photo is changed or deleted.

    First, files of the same bytes are found. Then small thumbnails of all photos are compared: two photos are copies if
    one is the other after re-compression, resizing, cropping by up to about 10 % of each side, a change of brightness,
    contrast or colour, turning by right angles or mirroring. Different photos of one object are no copies. The step
    writes to the folder --output:

    - duplicates.json: the groups of copies, each with its kind (exact: all files have the same bytes; near) and the
      photo to keep: of the copies with most pixels the largest file, then the oldest one, in a folder of this machine,
      then the first name
    - left_out.json: the reason for each file that was not compared, or of which only the bytes were compared
    - index.html: the groups

    Thumbnails are kept in the user's cache folder, so that a killed run continues, and the next run reads only photos
    that have changed.

    Returns:
        The path of duplicates.json.

    Raises:
        ArgumentError: an option is out of range.
        PhotoFolderError: `photos` does not exist or contains no photo.
        FolderError: `output` is a file.
        ValueError: the network cannot be loaded.
        RemoteError: the storage of photos at an address does not answer, or refuses.
    """
    output = options.output
    if output.exists() and not output.is_dir():
        raise FolderError(f"{output} is a file: name a folder for --output")
    intake = options.take(options.photos)
    print(intake.account, flush=True)
    pairs = None if options.model is None else similar_by_network(options, intake.photos)
    copies = find_copies(
        intake.folder,
        intake.photos,
        near=options.near,
        accept_truncated=options.accept_truncated,
        pairs=pairs,
        states=intake.states.by_name(intake.photos),
    )
    output.mkdir(parents=True, exist_ok=True)
    about = {"photos": place_text(options.photos), "options": options.facts(arguments=False)}
    write_duplicates(output / FILE, copies, about)
    write_left_out(output / LEFT_OUT, intake.reasons | dict(copies.left_out))
    write_file(output / PAGE, duplicates_page(copies, options.photos))
    print(copies.account)
    if copies.left_out:
        print(f"{len(copies.left_out):,} photos cannot be read, and only their bytes were compared")
    print(f"groups: {output / FILE}\npage: {(output / PAGE).resolve()}")
    return output / FILE
