"""Image space: a folder, an array or the embedded set -> images with a ValueSpec -> x0 in [-1, 1], and back.

The only room that knows files, value ranges and colour modes. A set is scanned and decided on once, packed into
the user's cache as raw values (N, H, W, C) and mapped from there; sizes are always (height, width).
"""

from fromnoise.images.asked import Asked
from fromnoise.images.image_set import ImageSet
from fromnoise.images.png import encode_png, read_png_text
from fromnoise.images.report import Refused, ScanReport
from fromnoise.images.resize import Fit, parse_size
from fromnoise.images.save import encode_image, encode_npz, read_settings, suffix_of
from fromnoise.images.show import beside, enlarge, montage, near_square
from fromnoise.images.source import default_run, open_images
from fromnoise.images.spec import ValueSpec
from fromnoise.images.split import evenly

__all__ = [
    "Asked",
    "Fit",
    "ImageSet",
    "Refused",
    "ScanReport",
    "ValueSpec",
    "beside",
    "default_run",
    "encode_image",
    "encode_npz",
    "encode_png",
    "enlarge",
    "evenly",
    "montage",
    "near_square",
    "open_images",
    "parse_size",
    "read_png_text",
    "read_settings",
    "suffix_of",
]
