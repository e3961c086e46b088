"""Backbones: tensors in, tensors out. They know nothing of diffusion: a number per image tells them where they are,
and a condition what else is known of the image.

Only a small closed set of operations is used (linear, convolution, scale and shift, SiLU, GELU, normalisation,
attention, pixel shuffle, nearest upsampling), so that any net can be carried to other runtimes.
"""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Discriminator, Tag

from fromnoise.nets.inference import ready
from fromnoise.nets.mlp import MLP, MLPSpec
from fromnoise.nets.transformer import HEAD, Layer, Transformer, TransformerSpec
from fromnoise.nets.unet import UNet, UNetSpec

__all__ = [
    "HEAD",
    "MLP",
    "ImageNet",
    "ImageSpec",
    "Layer",
    "MLPSpec",
    "Transformer",
    "TransformerSpec",
    "UNet",
    "UNetSpec",
    "build",
    "ready",
]


def _kind(spec: "Mapping[str, Any] | UNetSpec | TransformerSpec") -> str:
    """The kind of a spec or of its fields; one that names none is of the time when there were U-Nets alone."""
    return str(spec.get("kind", "unet")) if isinstance(spec, Mapping) else spec.kind


ImageNet = UNet | Transformer  # the nets of images; both answer spec and matrices
ImageSpec = Annotated[
    Annotated[UNetSpec, Tag("unet")] | Annotated[TransformerSpec, Tag("transformer")],
    Discriminator(
        _kind,
        custom_error_type="kind_of_net",
        custom_error_message="no such kind of net: there are unet and transformer",
    ),
]


def build(spec: UNetSpec | TransformerSpec) -> ImageNet:
    """The net of a spec, its weights drawn from torch's global generator."""
    return UNet(spec) if isinstance(spec, UNetSpec) else Transformer(spec)
