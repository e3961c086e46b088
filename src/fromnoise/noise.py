"""Noise levels and the one forward formula, x_t = alpha_t x0 + sigma_t eps.

Notation contract
    t       0 is the clean image, 1 is pure noise; a float or a tensor of shape () or (B,).
    alpha, sigma  float64 tensors of t's shape; a schedule is nothing but this pair.
    log_snr       log(alpha**2 / sigma**2), strictly falling in t.
    t = 0 gives the image itself (alpha 1, sigma 0, log_snr inf). Every other t is clipped once, into the schedule's
    [t_min, t_max], where log_snr lies within its bounds and both alpha and sigma are positive.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

LOG_SNR_MAX = -2.0 * math.log(0.002)
LOG_SNR_MIN = -2.0 * math.log(160.0)
T_SMALLEST = 1e-12  # t = 0 itself is the clean image, so a noise level needs a t of its own


class Schedule:
    """A map t -> (alpha_t, sigma_t). Subclasses give log_snr on [0, 1], its inverse, and the pair at a log_snr."""

    name: str

    def __init__(self) -> None:
        self.t_min = float(self._t(torch.tensor(LOG_SNR_MAX, dtype=torch.float64)).clamp(T_SMALLEST, 1.0))
        self.t_max = float(self._t(torch.tensor(LOG_SNR_MIN, dtype=torch.float64)).clamp(T_SMALLEST, 1.0))

    def log_snr(self, t: float | Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """log(alpha_t**2 / sigma_t**2) in float64; inf at t = 0 exactly."""
        t = torch.as_tensor(t, dtype=torch.float64)
        inside = self._log_snr(t.clamp(self.t_min, self.t_max))
        return torch.where(t == 0.0, math.inf, inside)

    def t_at(self, log_snr: float | Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
        """The t at which log_snr is reached, clipped into [t_min, t_max]: the inverse of ``log_snr``."""
        wanted = torch.as_tensor(log_snr, dtype=torch.float64)
        return self._t(wanted.clamp(LOG_SNR_MIN, LOG_SNR_MAX)).clamp(self.t_min, self.t_max)

    def alpha_sigma(self, t: float | Float[Tensor, "*b"]) -> tuple[Float[Tensor, "*b"], Float[Tensor, "*b"]]:
        """(alpha_t, sigma_t) in float64, of t's shape; (1, 0) at t = 0 exactly."""
        return self._pair(self.log_snr(t))

    def _log_snr(self, t: Tensor) -> Tensor:
        raise NotImplementedError

    def _t(self, log_snr: Tensor) -> Tensor:
        raise NotImplementedError

    def _pair(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        """Variance preserving, alpha**2 + sigma**2 = 1, unless a subclass says otherwise."""
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()


class VPLinear(Schedule):
    """beta(t) = 0.1 + 19.9 t, variance preserving (Song et al. 2021, arXiv 2011.13456, eq. 32-33)."""

    name = "vp-linear"
    _low, _high = 0.1, 20.0

    def _log_snr(self, t: Tensor) -> Tensor:
        integral = 0.5 * t**2 * (self._high - self._low) + t * self._low
        return -torch.log(torch.expm1(integral))

    def _t(self, log_snr: Tensor) -> Tensor:
        integral = torch.nn.functional.softplus(-log_snr)
        slope = self._high - self._low
        return 2.0 * integral / (self._low + (self._low**2 + 2.0 * slope * integral).sqrt())


class VPCosine(Schedule):
    """alpha_t**2 = f(t) / f(0), f(t) = cos(pi/2 (t + 0.008) / 1.008)**2.

    Nichol, Dhariwal 2021, arXiv 2102.09672, eq. 17.
    """

    name = "vp-cosine"
    _offset = 0.008
    _at_zero = math.cos(math.pi / 2 * 0.008 / 1.008) ** 2

    def _log_snr(self, t: Tensor) -> Tensor:
        squared = torch.cos(math.pi / 2 * (t + self._offset) / (1 + self._offset)) ** 2 / self._at_zero
        return torch.logit(squared)

    def _t(self, log_snr: Tensor) -> Tensor:
        cosine = (torch.sigmoid(log_snr) * self._at_zero).sqrt()
        return torch.arccos(cosine) * 2 / math.pi * (1 + self._offset) - self._offset


class EDM(Schedule):
    """alpha = 1, log sigma linear in t from log 0.002 to log 80 (Karras et al. 2022, arXiv 2206.00364, table 1)."""

    name = "edm"
    _low, _high = math.log(0.002), math.log(80.0)

    def _log_snr(self, t: Tensor) -> Tensor:
        return -2.0 * (self._low + t * (self._high - self._low))

    def _t(self, log_snr: Tensor) -> Tensor:
        return (-0.5 * log_snr - self._low) / (self._high - self._low)

    def _pair(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(log_snr), torch.exp(-0.5 * log_snr)


class Flow(Schedule):
    """alpha = 1 - t, sigma = t (Lipman et al. 2023, arXiv 2210.02747; Liu et al. 2023, arXiv 2209.03003)."""

    name = "flow"

    def _log_snr(self, t: Tensor) -> Tensor:
        return -2.0 * torch.logit(t)

    def _t(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-0.5 * log_snr)

    def _pair(self, log_snr: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sigmoid(0.5 * log_snr), torch.sigmoid(-0.5 * log_snr)


class Tabulated(Schedule):
    """A table of betas, variance preserving: entry i of N stands at t = (i + 1) / N, log_snr linear in between.

    alpha**2 at entry i is the product of 1 - beta up to i (Ho et al. 2020, arXiv 2006.11239, eq. 4).
    """

    name = "tabulated"

    def __init__(self, betas: Float[Tensor, " n"]) -> None:
        """betas: in (0, 1), at least two."""
        products = torch.cumprod(1.0 - betas.double(), 0)
        self._table = torch.logit(products).numpy()
        self._times = (np.arange(len(betas)) + 1.0) / len(betas)
        super().__init__()

    @classmethod
    def ddpm(cls) -> "Tabulated":
        """The 1,000 betas of DDPM, linear from 1e-4 to 0.02 (Ho et al. 2020, section 4)."""
        table = cls(torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64))
        table.name = "ddpm"
        return table

    def _log_snr(self, t: Tensor) -> Tensor:
        return torch.as_tensor(np.interp(t.numpy(), self._times, self._table), dtype=torch.float64)

    def _t(self, log_snr: Tensor) -> Tensor:
        found = np.interp(log_snr.numpy(), self._table[::-1], self._times[::-1])
        return torch.as_tensor(found, dtype=torch.float64)


SCHEDULES: dict[str, Callable[[], Schedule]] = {
    "edm": EDM,
    "vp-linear": VPLinear,
    "vp-cosine": VPCosine,
    "flow": Flow,
    "ddpm": Tabulated.ddpm,
}


@dataclass(frozen=True)
class Condition:
    """What a denoiser may be told about an image; a missing field, class -1 or a number NaN is the null row."""

    class_index: Int[Tensor, " b"] | None = None  # (B,) in [-1, classes), -1 = no class
    numbers: Float[Tensor, "b n"] | None = (
        None  # (B, n) normalised over the training images, NaN = unknown, each for itself
    )
    image: Float[Tensor, "b c h w"] | None = None  # (B, C, H, W) in [-1, 1]

    def repeated(self, n: int) -> "Condition":
        """Of one image, the same for n."""
        return self._each(lambda rows: rows.expand(n, *rows.shape[1:]))

    def rows(self, indices: Int[Tensor, " n"]) -> "Condition":
        """What some of the images are told."""
        return self._each(lambda rows: rows[indices.to(rows.device)])

    def hidden(self, first: int = 0) -> "Condition":
        """From image ``first`` on, the null rows of class and numbers; images stay."""
        found = self._each(Tensor.clone)
        for rows, null in ((found.class_index, -1), (found.numbers, torch.nan)):
            if rows is not None:
                rows[first:] = null
        return found

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Condition":
        told = (self.class_index, self.numbers, self.image)
        return Condition(*(None if rows is None else change(rows) for rows in told))


@dataclass(frozen=True)
class NoisyPair:
    """An image, the noise put on it, and the result: the noise travels with the noisy image."""

    x0: Float[Tensor, "b *shape"]  # in [-1, 1]
    eps: Float[Tensor, "b *shape"]  # standard normal
    t: Float[Tensor, " b"]  # float64, in [0, 1]
    alpha: Float[Tensor, " b"]  # float64
    sigma: Float[Tensor, " b"]  # float64
    x_t: Float[Tensor, "b *shape"]  # alpha x0 + sigma eps
    condition: Condition

    @property
    def log_snr(self) -> Float[Tensor, " b"]:
        """float64; inf at t = 0."""
        return 2.0 * torch.log(self.alpha / self.sigma)


def spread(value: Float[Tensor, "*b"], like: Float[Tensor, "b *shape"]) -> Tensor:
    """A number, or one per image, ready to multiply ``like``: its dtype and device, shape () or (B, 1, ..., 1)."""
    value = value.to(like.device, like.dtype)
    return value if value.ndim == 0 else value.reshape(-1, *[1] * (like.ndim - 1))


def corrupt(
    schedule: Schedule,
    x0: Float[Tensor, "b *shape"],
    eps: Float[Tensor, "b *shape"],
    t: float | Float[Tensor, "*b"],
    condition: Condition | None = None,
) -> NoisyPair:
    """Jump to noise level t in one go: x_t = alpha_t x0 + sigma_t eps."""
    times = torch.as_tensor(t, dtype=torch.float64).expand(len(x0))
    alpha, sigma = schedule.alpha_sigma(times)
    x_t = spread(alpha, x0) * x0 + spread(sigma, x0) * eps
    return NoisyPair(x0, eps, times, alpha, sigma, x_t, condition or Condition())


def walk(
    schedule: Schedule,
    x0: Float[Tensor, "b *shape"],
    times: Sequence[float],
    noise: Callable[[int], Float[Tensor, "b *shape"]],
) -> Iterator[Float[Tensor, "b *shape"]]:
    """The forward chain step by step: yields x_t at each of the rising ``times``, starting from x0 at t = 0.

    One step from s to t, with r = alpha_t / alpha_s: x_t = r x_s + sqrt(sigma_t**2 - r**2 sigma_s**2) z,
    where z = ``noise(k)`` is fresh at step k (Kingma et al. 2021, arXiv 2107.00630, eq. 3-4).
    """
    x, alpha_s, sigma_s = x0, torch.tensor(1.0).double(), torch.tensor(0.0).double()
    for k, t in enumerate(times):
        alpha_t, sigma_t = schedule.alpha_sigma(t)
        ratio = alpha_t / alpha_s
        fresh = (sigma_t**2 - ratio**2 * sigma_s**2).clamp(min=0.0).sqrt()
        x = spread(ratio, x) * x + spread(fresh, x) * noise(k)
        alpha_s, sigma_s = alpha_t, sigma_t
        yield x
