"""Reads fields of tuples.npz, and the photos that it names."""

from zlib import crc32

import numpy as np
from PIL import Image


def load(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def named_pairs(fields):
    images = fields["images"]
    return [(str(images[q]), str(images[p])) for q, p in zip(fields["qidxs"], fields["pidxs"], strict=True)]


def make_photos(folder, names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(crc32(name.encode())).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).save(folder / name)  # photos of equal pixels would be copies
    return folder
