"""fromnoise: train an image generator on your own pictures, and see through it.

Every name of the public list is loaded when it is first used, so ``import fromnoise`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fromnoise.denoise import Denoiser, EnergyModel, NetDenoiser
    from fromnoise.exact import Empirical, GaussianMixture, LocalPatches
    from fromnoise.guide import Guidance
    from fromnoise.images import ImageSet, open_images
    from fromnoise.machine import probe
    from fromnoise.menagerie import Menagerie
    from fromnoise.model import Model, Samples
    from fromnoise.nets import MLP, MLPSpec, Transformer, TransformerSpec, UNet, UNetSpec
    from fromnoise.noise import SCHEDULES, Condition, NoisyPair, corrupt, walk
    from fromnoise.recipe import Recipe
    from fromnoise.run_folder import load
    from fromnoise.sample import GRIDS, STEPPERS, Sampler, Step, trajectory
    from fromnoise.session import open_session, train
    from fromnoise.training import TrainStep, fit

_ROOM_OF = {
    "open_images": "images",
    "ImageSet": "images",
    "Menagerie": "menagerie",
    "SCHEDULES": "noise",
    "Condition": "noise",
    "NoisyPair": "noise",
    "corrupt": "noise",
    "walk": "noise",
    "MLP": "nets",
    "MLPSpec": "nets",
    "Transformer": "nets",
    "TransformerSpec": "nets",
    "UNet": "nets",
    "UNetSpec": "nets",
    "Denoiser": "denoise",
    "EnergyModel": "denoise",
    "NetDenoiser": "denoise",
    "Empirical": "exact",
    "GaussianMixture": "exact",
    "LocalPatches": "exact",
    "Guidance": "guide",
    "GRIDS": "sample",
    "STEPPERS": "sample",
    "Sampler": "sample",
    "Step": "sample",
    "trajectory": "sample",
    "probe": "machine",
    "Recipe": "recipe",
    "Model": "model",
    "Samples": "model",
    "load": "run_folder",
    "TrainStep": "training",
    "fit": "training",
    "open_session": "session",
    "train": "session",
}

__all__ = [
    "GRIDS",
    "MLP",
    "SCHEDULES",
    "STEPPERS",
    "Condition",
    "Denoiser",
    "Empirical",
    "EnergyModel",
    "GaussianMixture",
    "Guidance",
    "ImageSet",
    "LocalPatches",
    "MLPSpec",
    "Menagerie",
    "Model",
    "NetDenoiser",
    "NoisyPair",
    "Recipe",
    "Sampler",
    "Samples",
    "Step",
    "TrainStep",
    "Transformer",
    "TransformerSpec",
    "UNet",
    "UNetSpec",
    "__version__",
    "corrupt",
    "fit",
    "load",
    "open_images",
    "open_session",
    "probe",
    "train",
    "trajectory",
    "walk",
]


def __getattr__(name: str) -> object:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'fromnoise' has no attribute {name!r}")
    return getattr(import_module(f"fromnoise.{_ROOM_OF[name]}"), name)
