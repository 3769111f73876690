"""What a file is that somebody took for weights, such as the web page that a failed download leaves."""

_MISTAKEN = {
    b"version https://git-lfs": "it is a Git LFS pointer in place of the weights: `git lfs pull` downloads them",
    b"<": "it is a web page or XML, not weights: its download failed",
    b"{": "it is JSON, not weights: give the file of weights beside it",
}
_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


def mistaken_for_weights(head: bytes) -> str | None:
    """Says what a file is that contains no weights.

    Args:
        head: the first bytes of the file.

    Returns:
        What it is and what to do, as a part of a sentence; None if nothing is recognised.
    """
    for start, kind in _COMPRESSED.items():
        if head.startswith(start):
            return f"it is compressed with {kind}: unpack it first"
    return next((reason for start, reason in _MISTAKEN.items() if head.lstrip().startswith(start)), None)
