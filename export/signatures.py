"""What an exported network is asked and answers: names of signatures, inputs and outputs, and codes of `status`.

| signature | input | outputs |
|---|---|---|
| serving_default | image_bytes (B,) string | descriptors (B, D) float32, status (B,) int32 |
| images | images (B, H, W, 3) float32, RGB 0..255 | descriptors (B, D) float32 |
| images_uint8 | images (B, H, W, 3) uint8, RGB | descriptors (B, D) float32 |
| embed_regions | image_bytes (B,) string | regions (B, R, d), boxes (B, R, 4) float32, status (B,) int32 |

`embed_regions` is there where the network pools regions. R is the same for all photos; a region that a photo has not is
a row of zeros in `regions` and `boxes`. A box is left, top, right, bottom as shares of the upright photo's sides.
"""

SERVING_DEFAULT = "serving_default"
IMAGES = "images"
IMAGES_UINT8 = "images_uint8"
EMBED_REGIONS = "embed_regions"

IMAGE_BYTES = "image_bytes"
PIXELS = "images"
"""The input of IMAGES and of IMAGES_UINT8."""

DESCRIPTORS = "descriptors"
STATUS = "status"
REGIONS = "regions"
BOXES = "boxes"

OK, UNKNOWN_FORMAT, DAMAGED, TOO_MANY_PIXELS, NO_DESCRIPTOR = range(5)

REASONS = {
    UNKNOWN_FORMAT: "not a picture in a form that is served (JPEG, PNG, GIF, WebP, BMP)",
    DAMAGED: "damaged, truncated, or of a kind that is not served",
    TOO_MANY_PIXELS: "its header declares too many pixels",
    NO_DESCRIPTOR: "the network's descriptor of it is zero or not finite",
}
"""Code of `status` -> why a photo has no descriptor: its row is zero. OK, 0, is the only other code."""
