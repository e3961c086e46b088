"""Averages of weights over images_seen.

The average is the power-function one of Karras et al. (2024, arXiv 2312.02696, section 3.1): at position T it weighs
the weights of position tau by tau**gamma, so its length is always the same share of the run, short or long.
``relative_std``, the standard deviation of that weighting divided by T, is the one number that describes it.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor


def gamma_of(relative_std: float) -> float:
    """The exponent whose weighting has this relative standard deviation, in (0, 0.28) (their algorithm 2)."""
    inverse = relative_std**-2
    return float(np.roots([1.0, 7.0, 16.0 - inverse, 12.0 - inverse]).real.max())


def share(gamma: float, images_seen: int, images: int) -> float:
    """What of the average is replaced when weights come in at ``images_seen``, ``images`` after the last ones (eq. 3).

    The first ones replace all of it.
    """
    return 1.0 - (1.0 - images / images_seen) ** (gamma + 1.0)


def update(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], share: float | Tensor) -> None:
    """Move ``average`` in place towards ``weights`` (same names, floating point) by a share of the way, in [0, 1].

    A tensor of no dimensions, on their device, where a graph is to read another share at each replay.
    """
    with torch.no_grad():
        for name, weight in weights.items():
            average[name].lerp_(weight, share)
