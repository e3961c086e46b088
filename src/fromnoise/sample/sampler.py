"""Samplers by name: a stepper, a grid, a number of steps."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from jaxtyping import Float, Float64
from torch import Tensor

from fromnoise.denoise import Denoiser
from fromnoise.errors import UseError
from fromnoise.noise import Condition, Schedule
from fromnoise.sample.adaptive import adaptive
from fromnoise.sample.corrected import corrected
from fromnoise.sample.grids import GRIDS
from fromnoise.sample.loop import trajectory
from fromnoise.sample.multistep import dpm_2m, dpm_2m_sde, dpm_3m, unipc_1, unipc_2, unipc_3
from fromnoise.sample.single import ddim, heun
from fromnoise.sample.step import Step, Stepper, Update

STEPPERS: dict[str, Stepper] = {
    "ddpm": Stepper(partial(ddim, eta=1.0), order=1, calls=1, stochastic=True),
    "ddim": Stepper(ddim, order=1, calls=1, stochastic=False),
    "heun": Stepper(heun, order=2, calls=2, stochastic=False),
    "dpm-2m": Stepper(dpm_2m, order=2, calls=1, stochastic=False, memory=True),
    "dpm-3m": Stepper(dpm_3m, order=3, calls=1, stochastic=False, memory=True),
    "dpm-2m-sde": Stepper(dpm_2m_sde, order=2, calls=1, stochastic=True, memory=True),
    "unipc-1": Stepper(unipc_1, order=2, calls=1, stochastic=False, memory=True),
    "unipc-2": Stepper(unipc_2, order=3, calls=1, stochastic=False, memory=True),
    "unipc-3": Stepper(unipc_3, order=4, calls=1, stochastic=False, memory=True),
}
ADAPTIVE = "adaptive"  # chooses its own steps between the times of the grid
SAMPLERS = (*STEPPERS, ADAPTIVE)  # every name that a Sampler knows
TOLERANCE = 0.01  # of values in [-1, 1]: about one level of 8 bits
LEAST = 1e-8  # tolerance, which takes thousands of calls; less is lost in rounding
FEWEST = 2  # times for adaptive to land on: the least noise, and the image


@dataclass(frozen=True)
class Sampler:
    """A stepper, a grid and a number of steps, by name.

    eta belongs to ddim, churn (EDM's S_churn) to heun, tolerance to adaptive, whose steps are the times it reports;
    corrections, Langevin moves after each step, to the steppers without memory. Raises UseError for an unknown name,
    an option of another stepper, and a tolerance that is not positive.
    """

    stepper: str = "dpm-2m"
    steps: int = 16
    grid: str = "log-snr"
    eta: float = 0.0
    churn: float = 0.0
    tolerance: float | None = None
    corrections: int = 0

    def __post_init__(self) -> None:
        for what, name, known in (("sampler", self.stepper, SAMPLERS), ("grid", self.grid, GRIDS)):
            if name not in known:
                raise UseError(f"No {what} {name!r}: there are {', '.join(known)}.")
        for option, value, owner in (
            ("eta", self.eta, "ddim"),
            ("churn", self.churn, "heun"),
            ("tolerance", self.tolerance, ADAPTIVE),
        ):
            if value and self.stepper != owner:
                raise UseError(
                    f"{option} belongs to the sampler {owner}, not to {self.stepper}: leave one of them out."
                )
        if self.corrections and self.stepper not in CORRECTABLE:
            raise UseError(
                f"corrections need a sampler without memory, {', '.join(CORRECTABLE)}, and {self.stepper} is none: "
                "leave one of them out."
            )
        if self.stepper == ADAPTIVE and self.tolerance is None:
            object.__setattr__(self, "tolerance", TOLERANCE)
        if self.tolerance is not None and not LEAST <= self.tolerance < math.inf:
            raise UseError(
                "tolerance is the error allowed in values from -1 to 1, such as 0.01, and "
                f"{LEAST:g} at least, not {self.tolerance}."
            )
        if self.stepper == ADAPTIVE and self.steps < FEWEST:
            raise UseError(
                "adaptive takes 2 steps at least, one to the least noise and one to the image, not "
                f"{self.steps}: leave them out, or give more."
            )

    def changed(
        self,
        stepper: str | None = None,
        steps: int | None = None,
        grid: str | None = None,
        eta: float | None = None,
        churn: float | None = None,
        tolerance: float | None = None,
        corrections: int | None = None,
    ) -> "Sampler":
        """This sampler with what is given in place of its own; another stepper leaves the options behind.

        To and from adaptive steps and grid are left behind too: there they are times to report, and each costs calls.
        """
        name = stepper or self.stepper
        own = self if name == self.stepper else Sampler(name, FEWEST) if name == ADAPTIVE else Sampler(name)
        kept = own if ADAPTIVE in (self.stepper, name) else self
        return Sampler(
            name,
            steps or kept.steps,
            grid or kept.grid,
            own.eta if eta is None else eta,
            own.churn if churn is None else churn,
            own.tolerance if tolerance is None else tolerance,
            own.corrections if corrections is None else corrections,
        )

    @property
    def stochastic(self) -> bool:
        """Whether it draws fresh noise on the way."""
        drawn = self.stepper != ADAPTIVE and STEPPERS[self.stepper].stochastic
        return drawn or self.eta > 0 or self.churn > 0 or self.corrections > 0

    def times(self, schedule: Schedule) -> Float64[Tensor, " n"]:
        """The (steps + 1,) times visited, falling from t_max to 0."""
        return GRIDS[self.grid](schedule, self.steps)

    def step(self) -> Update:
        """The stepper with its options bound; adaptive, which is not one, has none."""
        assert self.stepper != ADAPTIVE, "adaptive takes steps of many lengths: ask for its trajectory"
        stepper = STEPPERS[self.stepper]
        if self.stepper == "ddim":
            stepper = replace(stepper, step=partial(ddim, eta=self.eta))
        if self.stepper == "heun":
            stepper = replace(stepper, step=partial(heun, raise_by=min(self.churn / self.steps, math.sqrt(2.0) - 1.0)))
        return corrected(stepper, self.corrections).step if self.corrections else stepper.step

    def trajectory(
        self,
        denoiser: Denoiser,
        x_start: Float[Tensor, "b *shape"],
        times: Float64[Tensor, " n"],
        *,
        condition: Condition | None = None,
        seed: int = 0,
        numbers: Sequence[int] | None = None,
    ) -> Iterator[Step]:
        """Every Step from x_start at times[0] down to times[-1], as ``trajectory`` and ``adaptive`` yield them."""
        if self.stepper == ADAPTIVE:
            assert self.tolerance is not None
            return adaptive(denoiser, x_start, times, self.tolerance, condition=condition)
        return trajectory(denoiser, x_start, times, self.step(), condition=condition, seed=seed, numbers=numbers)


CORRECTABLE = tuple(name for name, stepper in STEPPERS.items() if not stepper.memory)
