"""From a folder of photos to a page on which they can be searched: `keras-retrieval app PHOTOS`."""

from keras_retrieval.pipelines.command.options import takes

from .options import AppOptions


@takes(AppOptions)
def app(options: AppOptions) -> None:
    """Shows the photos of a folder on a page, and makes them searchable: by a photo of them, or by another one.

    The page is there at once. The photos are described behind it, and can be searched as soon as the first of them are.
    What was described is kept in the state folder, so that the next start takes seconds; it follows new, changed and
    deleted photos. Ctrl-C ends it at any time without a loss.

    Raises:
        PhotoFolderError: PHOTOS does not exist.
        NetworkError: the network's file does not exist.
        ArgumentError: an option is out of range, or the name of the network is unknown.
        StateBusyError: the photos are shown already; the message has the address of the page.
        StateError: the state folder cannot be written, or is that of another folder.
        ListenError: the port is in use, or the address is not one of this machine.
    """
    from .running import run  # not at the top: a wrong option is answered before

    run(options, lambda text: print(text, flush=True))
