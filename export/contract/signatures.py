"""What an exported network is asked and answers: names of signatures, inputs and outputs, and codes of `status`.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes (B,) string | descriptors (B, D) float32, status (B,) int32 |
| images | images (B, H, W, 3) float32, RGB 0..255 | descriptors (B, D) float32 |
| images_uint8 | images (B, H, W, 3) uint8, RGB | descriptors (B, D) float32 |
| embed_regions | image_bytes (B,) string | regions (B, R, d), boxes (B, R, 4) float32, status (B,) int32 |
| search | image_bytes (B,) string, k int32, boxes (B, 4) float32 | names, scores (B, K) string, float32; status (B,) |

`embed_regions` is there where the network pools regions. R is the same for all photos; a region that a photo has not is
a row of zeros in `regions` and `boxes`. A box is left, top, right, bottom as shares of the upright photo's sides.

`search` is there where the network is served with an index (`keras-retrieval serve --index`). `k` is one number or one
for each photo, 10 if left out. `boxes` may be left out, too: left, top, right, bottom in pixels of the upright photo,
which is searched for that part alone; four zeros stand for the whole. K is the most neighbours that a photo of the
request has, best first; the row of a photo with fewer ends in names "" with scores of -infinity. A version that was
exported with its index has `leaves` () int32 in place of `boxes`: how many leaves of the index's tree to look into, as
many as its own searches if 0 or left out. It needs a server with ScaNN's operations.
"""

from pathlib import Path

import numpy as np

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

K, MOST_K = 10, 10_000
NOTHING = -np.inf  # the score where a row has fewer neighbours than another

WARM_UP = Path("assets.extra") / "tf_serving_warmup_requests"


SERVING_DEFAULT = "serving_default"
IMAGES = "images"
IMAGES_UINT8 = "images_uint8"
EMBED_REGIONS = "embed_regions"
SEARCH = "search"

IMAGE_BYTES = "image_bytes"
PIXELS = "images"
"""The input of IMAGES and of IMAGES_UINT8."""

DESCRIPTORS = "descriptors"
STATUS = "status"
REGIONS = "regions"
BOXES = "boxes"
NEIGHBOURS = "k"
LEAVES = "leaves"
NAMES = "names"
SCORES = "scores"

OK, UNKNOWN_FORMAT, DAMAGED, TOO_MANY_PIXELS, NO_DESCRIPTOR, BAD_BOX = range(6)

REASONS = {
    UNKNOWN_FORMAT: "not a picture in a form that is served (JPEG, PNG, GIF, WebP, BMP)",
    DAMAGED: "damaged, truncated, or of a kind that is not served",
    TOO_MANY_PIXELS: "its header declares too many pixels",
    NO_DESCRIPTOR: "the network's descriptor of it is zero or not finite",
    BAD_BOX: "its box is empty, or reaches outside the photo",
}
"""Code of `status` -> why a photo has no descriptor, so that its row is zero, or no neighbours; OK is the other."""
