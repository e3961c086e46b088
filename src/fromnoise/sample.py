"""From noise to images: time grids, pure steppers, and the one loop.

Notation contract
    t -> s is one step down, s < t; the last step of every grid ends at s = 0, the image itself.
    z = x / alpha and r = sigma / alpha are the normalised coordinates of denoise.py; lam = log_snr / 2 = -log r.
    A stepper is a pure function (denoise, schedule, x_t, t, s, state, noise) -> (x_s, state):
        denoise(x_t, t) -> x0_hat, noise(k) -> the k-th keyed standard normal of this step, state None at the start.
A sampler is a stepper and a grid. Watching is iterating: ``trajectory`` yields every Step, the result is the last x_s.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from fromnoise import keyed
from fromnoise.denoise import Denoiser, noise_ratio
from fromnoise.errors import UseError
from fromnoise.noise import Condition, Schedule, spread

Denoise = Callable[[Tensor, Tensor], Tensor]
Noise = Callable[[int], Tensor]
State = Any
Update = Callable[[Denoise, Schedule, Tensor, Tensor, Tensor, State, Noise], tuple[Tensor, State]]
Grid = Callable[[Schedule, int], Float64[Tensor, " n"]]


@dataclass(frozen=True)
class Step:
    """One update of a trajectory."""

    i: int  # 0-based
    t: float  # before
    s: float  # after; 0 in the last step
    x_t: Float[Tensor, "b *shape"]  # before
    x0_hat: Float[Tensor, "b *shape"]  # the denoiser's first answer: at (x_t, t), with churn at the raised noise
    x_s: Float[Tensor, "b *shape"]  # after
    nfe: int  # net evaluations per image so far


@dataclass(frozen=True)
class Stepper:
    """One update rule and what it declares: global order in the step size, calls per step, whether it draws noise."""

    step: Update
    order: int
    calls: int
    stochastic: bool


def uniform_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """t_max to 0 in equal steps of t, the last noise level being t_max / steps: (steps + 1,) falling times."""
    return schedule.t_max * torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


def log_snr_grid(schedule: Schedule, steps: int) -> Float64[Tensor, " n"]:
    """t_max to t_min in equal steps of log_snr, then 0: (steps + 1,) falling times."""
    ends = _ends(schedule)
    return _ending(schedule, ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64))


def karras_grid(schedule: Schedule, steps: int, rho: float = 7.0) -> Float64[Tensor, " n"]:
    """r**(1/rho) in equal steps, then 0 (Karras et al. 2022, arXiv 2206.00364, eq. 5): (steps + 1,) falling times."""
    ends = noise_ratio(_ends(schedule)) ** (1 / rho)
    r = (ends[0] + (ends[1] - ends[0]) * torch.linspace(0, 1, steps, dtype=torch.float64)) ** rho
    return _ending(schedule, -2.0 * torch.log(r))


def _ends(schedule: Schedule) -> Tensor:
    return schedule.log_snr(torch.tensor([schedule.t_max, schedule.t_min], dtype=torch.float64))


def _ending(schedule: Schedule, log_snr: Tensor) -> Tensor:
    return torch.cat([schedule.t_at(log_snr), torch.zeros(1, dtype=torch.float64)])


def ddim(
    denoise: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    state: State,
    noise: Noise,
    eta: float = 0.0,
) -> tuple[Tensor, State]:
    """DDIM (Song, Meng, Ermon 2021, arXiv 2010.02502, eq. 12 and 16).

    eta = 0 is Euler in normalised coordinates; eta = 1 is the ancestral step of DDPM (Ho et al. 2020, eq. 6-7).
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    x0 = denoise(x_t, t)
    eps = (x_t - spread(alpha_t, x_t) * x0) / spread(sigma_t, x_t)
    fresh = eta * sigma_s / sigma_t * (sigma_t**2 - (alpha_t / alpha_s * sigma_s) ** 2).clamp(min=0).sqrt()
    kept = (sigma_s**2 - fresh**2).clamp(min=0).sqrt()
    x_s = spread(alpha_s, x_t) * x0 + spread(kept, x_t) * eps
    return (x_s + spread(fresh, x_t) * noise(0) if fresh > 0 else x_s), None


def heun(
    denoise: Denoise,
    schedule: Schedule,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    state: State,
    noise: Noise,
    raise_by: float = 0.0,
) -> tuple[Tensor, State]:
    """Heun's second-order step in normalised coordinates, Euler in the last (Karras et al. 2022, algorithm 2).

    raise_by (their gamma_i, S_noise = 1): the noise ratio is first raised by this fraction with fresh noise.
    """
    if raise_by > 0:
        x_t, t = _raise_noise(schedule, x_t, t, raise_by, noise)
    z, r, slope = _slope(denoise, schedule, x_t, t)
    alpha_s, sigma_s = schedule.alpha_sigma(s)
    step = spread(sigma_s / alpha_s - r, z)
    z_s = z + step * slope
    if s > 0:
        _, _, slope_s = _slope(denoise, schedule, spread(alpha_s, z) * z_s, s)
        z_s = z + step * (slope + slope_s) / 2
    return spread(alpha_s, z) * z_s, None


def _slope(denoise: Denoise, schedule: Schedule, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """z, r and dz/dr = (z - x0_hat) / r."""
    alpha, sigma = schedule.alpha_sigma(t)
    z, r = x_t / spread(alpha, x_t), sigma / alpha
    return z, r, (z - denoise(x_t, t)) / spread(r, x_t)


def _raise_noise(schedule: Schedule, x_t: Tensor, t: Tensor, raise_by: float, noise: Noise) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule.alpha_sigma(t)
    raised = schedule.t_at(schedule.log_snr(t) - 2.0 * math.log1p(raise_by))
    alpha_up, sigma_up = schedule.alpha_sigma(raised)
    fresh = ((sigma_up / alpha_up) ** 2 - (sigma / alpha) ** 2).clamp(min=0).sqrt()
    z = x_t / spread(alpha, x_t) + spread(fresh, x_t) * noise(0)
    return spread(alpha_up, x_t) * z, raised


def dpm_2m(
    denoise: Denoise, schedule: Schedule, x_t: Tensor, t: Tensor, s: Tensor, state: State, noise: Noise
) -> tuple[Tensor, State]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, algorithm 2); first order in the first and last step.

    state: (x0_hat, lam) of the step before.
    """
    (_, sigma_t), (alpha_s, sigma_s) = schedule.alpha_sigma(t), schedule.alpha_sigma(s)
    lam_t, lam_s = schedule.log_snr(t) / 2, schedule.log_snr(s) / 2
    x0 = denoise(x_t, t)
    mixed = x0
    if state is not None and s > 0:
        x0_before, lam_before = state
        mixed = x0 + spread((lam_s - lam_t) / (2 * (lam_t - lam_before)), x0) * (x0 - x0_before)
    x_s = spread(sigma_s / sigma_t, x_t) * x_t - spread(alpha_s * torch.expm1(lam_t - lam_s), x_t) * mixed
    return x_s, (x0, lam_t)


STEPPERS: dict[str, Stepper] = {
    "ddpm": Stepper(partial(ddim, eta=1.0), order=1, calls=1, stochastic=True),
    "ddim": Stepper(ddim, order=1, calls=1, stochastic=False),
    "heun": Stepper(heun, order=2, calls=2, stochastic=False),
    "dpm-2m": Stepper(dpm_2m, order=2, calls=1, stochastic=False),
}

GRIDS: dict[str, Grid] = {"uniform": uniform_grid, "log-snr": log_snr_grid, "karras": karras_grid}


@dataclass(frozen=True)
class Sampler:
    """A stepper, a grid and a number of steps, by name; eta belongs to ddim and churn (EDM's S_churn) to heun.

    Raises UseError for an unknown name, or an option of another stepper.
    """

    stepper: str = "dpm-2m"
    steps: int = 16
    grid: str = "log-snr"
    eta: float = 0.0
    churn: float = 0.0

    def __post_init__(self) -> None:
        for what, name, known in (("sampler", self.stepper, STEPPERS), ("grid", self.grid, GRIDS)):
            if name not in known:
                raise UseError(f"No {what} {name!r}: there are {', '.join(known)}.")
        for option, value, owner in (("eta", self.eta, "ddim"), ("churn", self.churn, "heun")):
            if value and self.stepper != owner:
                raise UseError(
                    f"{option} belongs to the sampler {owner}, not to {self.stepper}: leave one of them out."
                )

    def changed(
        self,
        stepper: str | None = None,
        steps: int | None = None,
        grid: str | None = None,
        eta: float | None = None,
        churn: float | None = None,
    ) -> "Sampler":
        """This sampler with what is given in place of its own; another stepper leaves eta and churn behind."""
        same = stepper in (None, self.stepper)
        return Sampler(
            stepper or self.stepper,
            steps or self.steps,
            grid or self.grid,
            (self.eta if same else 0.0) if eta is None else eta,
            (self.churn if same else 0.0) if churn is None else churn,
        )

    def times(self, schedule: Schedule) -> Float64[Tensor, " n"]:
        """The (steps + 1,) times visited, falling from t_max to 0."""
        return GRIDS[self.grid](schedule, self.steps)

    def step(self) -> Update:
        """The stepper with its options bound."""
        if self.stepper == "ddim":
            return partial(ddim, eta=self.eta)
        if self.stepper == "heun":
            return partial(heun, raise_by=min(self.churn / self.steps, math.sqrt(2.0) - 1.0))
        return STEPPERS[self.stepper].step


class _Asked:
    """The denoiser with its condition bound, counting its calls and keeping the first answer of a step."""

    def __init__(self, denoiser: Denoiser, condition: Condition | None) -> None:
        self.denoiser, self.condition, self.nfe = denoiser, condition, 0
        self.first: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Tensor) -> Tensor:
        x0_hat = self.denoiser(x_t, t, self.condition)
        self.nfe += self.denoiser.cost
        self.first = x0_hat if self.first is None else self.first
        return x0_hat


def start_noise(schedule: Schedule, t: Tensor, shape: tuple[int, ...], seed: int, numbers: Sequence[int]) -> Tensor:
    """x_t = sigma_t eps at the grid's first time, (B, *shape) float32: eps keyed by (seed, image number)."""
    return _normals(shape, keyed.derive(seed, keyed.Purpose.START, _array(numbers))) * float(schedule.alpha_sigma(t)[1])


def trajectory(
    denoiser: Denoiser,
    x_start: Float[Tensor, "b *shape"],
    times: Float64[Tensor, " n"],
    step: Update,
    *,
    condition: Condition | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
) -> Iterator[Step]:
    """The one loop: from x_start at times[0] down to times[-1], yielding each Step.

    The schedule is the denoiser's own. ``numbers`` are the image numbers (B,) that, with ``seed``, key the fresh
    noise of stochastic steppers; by default 0 to B - 1.
    """
    schedule, x, state = denoiser.schedule, x_start, None
    asked = _Asked(denoiser, condition)
    keys = _array(range(len(x)) if numbers is None else numbers)
    for i, (t, s) in enumerate(itertools.pairwise(times)):
        asked.first = None
        noise = partial(_step_noise, x, seed, keys, i)
        with torch.no_grad():
            x_s, state = step(asked, schedule, x, t, s, state, noise)
        assert asked.first is not None, "a stepper asks the denoiser at least once"
        yield Step(i, float(t), float(s), x, asked.first, x_s, asked.nfe)
        x = x_s


def _step_noise(like: Tensor, seed: int, numbers: np.ndarray, i: int, k: int) -> Tensor:
    drawn = _normals(tuple(like.shape[1:]), keyed.derive(seed, keyed.Purpose.STEP, numbers, i, k))
    return drawn.to(like.device, like.dtype)


def _array(numbers: Sequence[int]) -> np.ndarray:
    return np.asarray(list(numbers), np.int64)


def _normals(shape: tuple[int, ...], key: tuple[np.ndarray, np.ndarray]) -> Tensor:
    return torch.from_numpy(keyed.normals(key, math.prod(shape))).reshape(-1, *shape)
