"""Reads fields of tuples.npz, and the photos that it names."""

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
        Image.new("RGB", (8, 8)).save(folder / name)
    return folder
