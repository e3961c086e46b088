"""Denoisers: (x_t, t, condition) -> x0_hat, an estimate of E[x0 given x_t].

Notation contract
    z = x_t / alpha - centre  normalised coordinates, the only ones a network sees
    r = sigma / alpha         the noise ratio there (EDM's sigma); log_snr = -2 log r
    x0_hat = centre + c_skip z + c_out F(c_in z, c_noise)    (Karras et al. 2022, arXiv 2206.00364, eq. 7)
A schedule is only the map t -> (alpha, sigma) at the door: ``under(schedule)`` gives the same denoiser behind another.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from fromnoise.noise import Condition, NoisyPair, Schedule, spread
from fromnoise.predict import FROM_X0


@runtime_checkable
class Denoiser(Protocol):
    """Anything that answers E[x0 given x_t]: learned or exact, everything downstream takes either."""

    @property
    def cost(self) -> int:
        """Net evaluations per image and call."""

    @property
    def schedule(self) -> Schedule:
        """The schedule under which t is read."""

    def under(self, schedule: Schedule) -> "Denoiser":
        """The same denoiser reading t under another schedule."""

    def __call__(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float[Tensor, "b *shape"]:
        """x0_hat, of x_t's shape."""


@runtime_checkable
class EnergyModel(Denoiser, Protocol):
    """A denoiser whose p_t is known in closed form; a learned one has a score but no energy."""

    def energy(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float64[Tensor, " b"]:
        """-log p_t(x_t) in nats, up to a constant that depends on t alone."""

    def log_density(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float64[Tensor, " b"]:
        """log p_t(x_t) in nats, of values in [-1, 1], the constant included."""


def score(
    denoiser: Denoiser,
    x_t: Float[Tensor, "b *shape"],
    t: Float[Tensor, "*b"],
    condition: Condition | None = None,
) -> Float[Tensor, "b *shape"]:
    """grad log p_t at x_t as the denoiser answers it; t in (0, 1], one for all or one per image."""
    alpha, sigma = denoiser.schedule.alpha_sigma(t)
    return FROM_X0["score"](denoiser(x_t, t, condition), x_t, spread(alpha, x_t), spread(sigma, x_t))


@dataclass(frozen=True)
class Coefficients:
    """One row of the table at given noise ratios: three tensors of r's shape."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor


def _edm(r: Tensor, sigma_data: float) -> Coefficients:
    total = r**2 + sigma_data**2
    return Coefficients(sigma_data**2 / total, r * sigma_data / total.sqrt(), 1.0 / total.sqrt())


def _eps(r: Tensor, sigma_data: float) -> Coefficients:
    return Coefficients(torch.ones_like(r), -r, (1.0 + r**2).rsqrt())


def _x0(r: Tensor, sigma_data: float) -> Coefficients:
    return Coefficients(torch.zeros_like(r), torch.ones_like(r), (1.0 + r**2).rsqrt())


def _v(r: Tensor, sigma_data: float) -> Coefficients:
    return Coefficients(1.0 / (1.0 + r**2), -r * (1.0 + r**2).rsqrt(), (1.0 + r**2).rsqrt())


def _velocity(r: Tensor, sigma_data: float) -> Coefficients:
    return Coefficients(1.0 / (1.0 + r), -r / (1.0 + r), 1.0 / (1.0 + r))


PRECONDITIONINGS: dict[str, Callable[[Tensor, float], Coefficients]] = {
    "edm": _edm,
    "eps": _eps,
    "x0": _x0,
    "v": _v,
    "velocity": _velocity,
}


def noise_ratio(log_snr: Tensor) -> Tensor:
    """r = sigma / alpha."""
    return torch.exp(-0.5 * log_snr)


@dataclass(frozen=True)
class NetDenoiser:
    """A network behind one row of the preconditioning table."""

    net: nn.Module  # (z (B,C,H,W), c_noise (B,), Condition) -> (B,C,H,W)
    schedule: Schedule
    sigma_data: float  # standard deviation of the images in [-1, 1]
    preconditioning: str = "edm"
    dtype: torch.dtype = torch.float32  # of the products inside the net; the rest keeps the images' dtype
    centre: float = 0.0  # in [-1, 1]; taken out before the net, as its unit variance supposes images around 0
    cost: ClassVar[int] = 1

    def under(self, schedule: Schedule) -> "NetDenoiser":
        """The same net reading t under another schedule."""
        return replace(self, schedule=schedule)

    def __call__(
        self, x_t: Float[Tensor, "b *shape"], t: Float[Tensor, "*b"], condition: Condition | None = None
    ) -> Float[Tensor, "b *shape"]:
        """x0_hat, of x_t's shape and dtype; t in (0, 1], one for all or one per image."""
        log_snr = self.schedule.log_snr(t).expand(len(x_t))
        alpha, _ = self.schedule.alpha_sigma(t)
        z = x_t / spread(alpha, x_t) - self.centre
        c = self._coefficients(log_snr)
        return self.centre + spread(c.c_skip, z) * z + spread(c.c_out, z) * self._net(z, c, log_snr, condition)

    def loss(self, pair: NoisyPair, weight: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """Per image, the mean over its values of weight * (x0_hat - x0)**2.

        The error is taken at the net's own output, where it is of order one at every noise level; the factor
        c_out**2 that this leaves out is put back in float64 together with the weight.
        """
        c = self._coefficients(pair.log_snr)
        output, target = self.answer(pair)
        error = (output - target).square().mean(tuple(range(1, output.ndim)))
        return error * (weight * c.c_out**2).to(error.device, error.dtype)

    def answer(self, pair: NoisyPair) -> tuple[Float[Tensor, "b *shape"], Float[Tensor, "b *shape"]]:
        """The net's own output F, and what it should have been: (x0 - c_skip z) / c_out."""
        log_snr = pair.log_snr
        c = self._coefficients(log_snr)
        z = pair.x_t / spread(pair.alpha, pair.x_t) - self.centre
        target = (pair.x0 - self.centre - spread(c.c_skip, z) * z) / spread(c.c_out, z)
        return self._net(z, c, log_snr, pair.condition), target

    def _coefficients(self, log_snr: Tensor) -> Coefficients:
        return PRECONDITIONINGS[self.preconditioning](noise_ratio(log_snr), self.sigma_data)

    def _net(self, z: Tensor, c: Coefficients, log_snr: Tensor, condition: Condition | None) -> Tensor:
        c_noise = (-0.125 * log_snr).to(z.device, z.dtype)
        mixed = self.dtype != torch.float32
        with torch.autocast(z.device.type, dtype=self.dtype if mixed else torch.bfloat16, enabled=mixed):
            return self.net(spread(c.c_in, z) * z, c_noise, condition or Condition()).to(z.dtype)


def edm_weight(log_snr: Tensor, sigma_data: float) -> Tensor:
    """(r**2 + sigma_data**2) / (r sigma_data)**2: one over c_out**2 of the edm row (Karras et al. 2022, table 1)."""
    r = noise_ratio(log_snr)
    return (r**2 + sigma_data**2) / (r * sigma_data) ** 2


def min_snr_weight(log_snr: Tensor, sigma_data: float) -> Tensor:
    """min(SNR, 5) on the x0 error (Hang et al. 2023, arXiv 2303.09556, section 3.4)."""
    return torch.exp(log_snr).clamp(max=5.0)


def flow_weight(log_snr: Tensor, sigma_data: float) -> Tensor:
    """(1 + 1/r)**2 on the x0 error: the plain squared error of the velocity (Lipman et al. 2023, eq. 5)."""
    return (1.0 + 1.0 / noise_ratio(log_snr)) ** 2


WEIGHTINGS = {"edm": edm_weight, "min-snr": min_snr_weight, "flow": flow_weight}


def stratified(u: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
    """B uniforms turned into one per stratum: (i + u_i) / B, so that a batch covers all noise levels evenly."""
    return (torch.arange(len(u), dtype=torch.float64) + u) / len(u)


def log_normal_levels(u: Float[Tensor, " b"], mean: float, deviation: float) -> Float[Tensor, " b"]:
    """log_snr where log r is normal (mean, deviation) at quantile u (Karras et al. 2022, table 1: -1.2, 1.2)."""
    return -2.0 * (mean + deviation * torch.special.ndtri(u.double()))


def logit_normal_levels(u: Float[Tensor, " b"], mean: float, deviation: float) -> Float[Tensor, " b"]:
    """log_snr where logit t of the flow schedule is normal (Esser et al. 2024, arXiv 2403.03206, eq. 19).

    There r = t / (1 - t), so logit t = log r: the same law as ``log_normal_levels``, customarily at (0, 1).
    """
    return log_normal_levels(u, mean, deviation)


def uniform_levels(u: Float[Tensor, " b"], schedule: Schedule) -> Float[Tensor, " b"]:
    """log_snr at t uniform on the schedule's (t_min, t_max)."""
    return schedule.log_snr(schedule.t_min + u * (schedule.t_max - schedule.t_min))
