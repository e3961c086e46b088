"""Backbones: tensors in, tensors out. They know nothing of diffusion: a number per image tells them where they are,
and a condition what else is known of the image.

Only a small closed set of operations is used (linear, convolution, SiLU, scale and shift, pixel shuffle, nearest
upsampling), so that any net can be carried to other runtimes.
"""

from fromnoise.nets.inference import ready
from fromnoise.nets.mlp import MLP, MLPSpec
from fromnoise.nets.unet import UNet, UNetSpec

__all__ = ["MLP", "MLPSpec", "UNet", "UNetSpec", "ready"]
