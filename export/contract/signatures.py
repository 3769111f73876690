"""The interface of an exported network: names of signatures, inputs and outputs, and the codes of `status`.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes (B,) string | descriptors (B, D) float32, status (B,) int32 |
| images | images (B, H, W, 3) float32, RGB 0..255 | descriptors (B, D) float32 |
| images_uint8 | images (B, H, W, 3) uint8, RGB | descriptors (B, D) float32 |
| embed_regions | image_bytes (B,) string | regions (B, R, d), boxes (B, R, 4) float32, status (B,) int32 |
| search | image_bytes (B,) string, k int32, boxes (B, 4) float32 | names, scores (B, K) string, float32; status (B,) |

`embed_regions` exists if the network pools regions. R is the same for all photos; missing regions of a photo are rows
of zeros in `regions` and `boxes`. A box is left, top, right, bottom as fractions of the upright photo's sides.

`search` exists if the network is served with an index (`keras-retrieval serve --index`). `k`, the number of neighbours,
is one number or one per photo, 10 by default. `boxes` is optional: left, top, right, bottom in pixels of the upright
photo, the part to search for; four zeros stand for the whole photo. K is the largest number of neighbours in the
response, best first; shorter rows are padded with the name "" and the score -infinity. A version that was exported with
its index has `leaves` () int32 instead of `boxes`: the number of leaves of the index's tree to visit, where 0, the
default, is the number that the index was tuned to. It needs a server with ScaNN's operations.
"""

from pathlib import Path

import numpy as np

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

SERVING_DEFAULT = "serving_default"
IMAGES = "images"
IMAGES_UINT8 = "images_uint8"
EMBED_REGIONS = "embed_regions"
SEARCH = "search"

IMAGE_BYTES = "image_bytes"
PIXELS = "images"
"""The input of IMAGES and IMAGES_UINT8."""

DESCRIPTORS = "descriptors"
STATUS = "status"
REGIONS = "regions"
BOXES = "boxes"
NEIGHBOURS = "k"
LEAVES = "leaves"
NAMES = "names"
SCORES = "scores"

DEFAULT_K, MAX_K = 10, 10_000
NO_SCORE = -np.inf
"""The score that pads rows with fewer neighbours."""

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"
"""The file of warm-up requests in a version."""

OK, UNKNOWN_FORMAT, DAMAGED, TOO_MANY_PIXELS, NO_DESCRIPTOR, BAD_BOX = range(6)

REASONS = {
    UNKNOWN_FORMAT: "not a picture in a supported format (JPEG, PNG, GIF, WebP, BMP)",
    DAMAGED: "damaged, truncated, or of an unsupported variant of its format",
    TOO_MANY_PIXELS: "its header declares too many pixels",
    NO_DESCRIPTOR: "the network's descriptor of it is zero or not finite",
    BAD_BOX: "its box is empty or extends beyond the photo",
}
"""Code of `status` -> the reason why a photo has no descriptor (its row is zero) or no neighbours; OK is not in it."""
