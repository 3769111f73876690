"""Describes photos with a network from `keras-retrieval export-onnx`: `python edge.py model.onnx a.jpg b.jpg`.

Needs onnxruntime, pillow and numpy, but not keras-retrieval, and computes the descriptors of `keras-retrieval extract`.
Prints the cosine similarities of all pairs of photos, or writes the rows: `edge.py model.onnx *.jpg -o rows.npy`.
"""

import argparse

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def reduced(width: int, height: int, size: int) -> tuple[int, int]:
    """(width, height) with a longest side of at most `size` and the nearest aspect ratio in integers."""
    if max(width, height) <= size:
        return width, height
    short = int(size * min(width, height) / max(width, height))
    sides = [(side, size) if width < height else (size, side) for side in (max(short, 1), short + 1)]
    return min(sides, key=lambda side: abs(width / height - side[0] / side[1]))


def read(path: str, size: int, smallest: int) -> np.ndarray:
    """Reads a photo upright, reduced to a longest side of `size`: (1, height, width, 3) float32, RGB 0..255."""
    with Image.open(path) as image:
        sideways = image.getexif().get(0x0112, 1) >= 5
        width, height = reduced(*(image.size[::-1] if sideways else image.size), size)
        target = (height, width) if sideways else (width, height)
        _, box = image.draft(None, (2 * target[0], 2 * target[1])) or (None, None)  # JPEG is decoded at a reduced size
        picture = ImageOps.exif_transpose(flat(image).resize(target, Image.Resampling.LANCZOS, box=box))
    missing = [(0, max(0, smallest - side)) for side in (height, width)]
    return np.pad(np.asarray(picture, np.float32), [*missing, (0, 0)], mode="edge")[None]


def flat(image: Image.Image) -> Image.Image:
    """Converts to RGB, transparent pixels over white."""
    if not image.has_transparency_data:
        return image.convert("RGB")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA")).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("photos", nargs="+")
    parser.add_argument("-o", "--output", help="a .npy file for the descriptors")
    options = parser.parse_args()
    network = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    size, smallest = (int(network.get_modelmeta().custom_metadata_map[key]) for key in ("size", "smallest_side"))
    rows = [network.run(["descriptors"], {"images": read(path, size, smallest)})[0] for path in options.photos]
    if options.output:
        np.save(options.output, np.concatenate(rows))
        return
    for path, similarities in zip(options.photos, np.concatenate(rows) @ np.concatenate(rows).T, strict=True):
        print(*(f"{similarity:.3f}" for similarity in similarities), path)


if __name__ == "__main__":
    main()
