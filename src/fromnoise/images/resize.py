"""From any height and width to one: crop, pad or stretch, antialiased."""

import re
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from fromnoise.errors import UseError

Fit = Literal["crop", "pad", "stretch"]
Size = tuple[int, int]  # (height, width), as everywhere in fromnoise; Pillow's own order is the other one
Box = tuple[float, float, float, float]  # left, upper, right, lower

LARGEST = 4096


def parse_size(text: str) -> Size:
    """``64`` -> (64, 64), ``48x64`` -> (48, 64), height first. Raises ``UseError`` otherwise."""
    match = re.fullmatch(r"\s*(\d{1,5})(?:\s*[x×X]\s*(\d{1,5}))?\s*", text)
    if match:
        size = int(match[1]), int(match[2] or match[1])
        if min(size) >= 1 and max(size) <= LARGEST:
            return size
    raise UseError(
        f"Looked for a size such as 64 or 48x64 (height x width, 1 to {LARGEST} pixels), but found {text!r}."
    )


def fit_image(image: Image.Image, size: Size, fit: Fit) -> UInt8[np.ndarray, "h w c"]:
    """A grey, RGB or RGBA image (Pillow's L, RGB, RGBA) -> 0..255 at ``size``; untouched where it already fits.

    crop: the middle part of the wanted shape. pad: the whole image in the middle, around it black, or
    transparent with RGBA. stretch: the whole image, its shape changed.
    """
    height, width = size
    if (image.height, image.width) == size:
        return _pixels(image)
    if fit == "pad":
        return _padded(image, size)
    box = (0.0, 0.0, float(image.width), float(image.height)) if fit == "stretch" else _crop_box(image, size)
    return _resampled(image, (height, width), box)


def _crop_box(image: Image.Image, size: Size) -> Box:
    scale = min(image.height / size[0], image.width / size[1])
    height, width = min(size[0] * scale, image.height), min(size[1] * scale, image.width)
    top, left = (image.height - height) / 2, (image.width - width) / 2
    if scale == 1:  # nothing is resized, so half a pixel of offset would only blur
        top, left = float(int(top)), float(int(left))
    return left, top, min(left + width, image.width), min(top + height, image.height)


def _padded(image: Image.Image, size: Size) -> UInt8[np.ndarray, "h w c"]:
    scale = min(size[0] / image.height, size[1] / image.width)
    height, width = max(1, round(image.height * scale)), max(1, round(image.width * scale))
    inner = _resampled(image, (height, width), (0.0, 0.0, float(image.width), float(image.height)))
    canvas = np.zeros((*size, inner.shape[-1]), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas[top : top + height, left : left + width] = inner
    return canvas


def _resampled(image: Image.Image, size: Size, box: Box) -> UInt8[np.ndarray, "h w c"]:
    if image.mode == "RGBA":
        return _resampled_alpha(image, size, box)
    return _pixels(image.resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box))


def _resampled_alpha(image: Image.Image, size: Size, box: Box) -> UInt8[np.ndarray, "h w 4"]:
    """Colours weighted by their opacity, in floats: 8 bits would let the overshoot of Lanczos tint the edges."""
    alpha_channel = np.asarray(image.getchannel("A"), np.float32) / np.float32(255)
    alpha = _resampled_plane(alpha_channel, size, box)
    seen = alpha >= 0.5 / 255
    planes = []
    for name in "RGB":
        colour = np.asarray(image.getchannel(name), np.float32) * alpha_channel
        weighted = _resampled_plane(colour, size, box)
        planes.append(np.divide(weighted, alpha, out=np.zeros_like(alpha), where=seen))
    planes.append(alpha * 255)
    return np.rint(np.clip(np.stack(planes, axis=-1), 0, 255)).astype(np.uint8)


def _resampled_plane(plane: Float32[np.ndarray, "H W"], size: Size, box: Box) -> Float32[np.ndarray, "h w"]:
    image = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.LANCZOS, box=box)
    return np.asarray(image)


def _pixels(image: Image.Image) -> UInt8[np.ndarray, "h w c"]:
    values = np.array(image)
    return values[..., None] if values.ndim == 2 else values
