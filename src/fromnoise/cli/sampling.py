"""The options with which a sampler is asked for: --sampler, --steps, --grid and what belongs to some samplers alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fromnoise.cli.gather import gathers

if TYPE_CHECKING:
    from fromnoise.sample import Sampler


SamplerOption = Annotated[
    str | None,
    typer.Option(
        help="dpm-2m, dpm-3m, unipc-1, unipc-2, unipc-3, heun, ddim or adaptive; with fresh noise ddpm or dpm-2m-sde. "
        "By default the run's own."
    ),
]
GridOption = Annotated[
    str | None, typer.Option(help="Where the steps fall: inner, log-snr, karras, cosine or uniform.")
]


@dataclass(frozen=True)
class Sampling:
    """What was asked for; None = as the model has it."""

    sampler: SamplerOption = None
    steps: Annotated[int | None, typer.Option(min=1, help="Steps from noise to image.")] = None
    grid: GridOption = None
    eta: Annotated[float | None, typer.Option(min=0, max=1, help="Fresh noise of ddim, 0 to 1.")] = None
    churn: Annotated[float | None, typer.Option(min=0, help="Fresh noise of heun, 0 = none (EDM's S_churn).")] = None
    tolerance: Annotated[
        float | None, typer.Option(help="Error that adaptive allows in values from -1 to 1, 0.01 by default.")
    ] = None
    corrections: Annotated[
        int | None, typer.Option(min=0, help="Langevin moves after each step of ddpm, ddim or heun, 0 = none.")
    ] = None

    def of(self, own: "Sampler") -> "Sampler":
        """``own`` with what was asked for in its place. Raises UseError as ``Sampler`` does."""
        return own.changed(*vars(self).values())

    @staticmethod
    def words(settings: Mapping[str, Any]) -> list[str]:
        """The words of a command that asks for the sampler of these settings."""
        owned = {"eta": "ddim", "churn": "heun", "tolerance": "adaptive"}  # refused beside another sampler
        said = {name: settings[name] for name in vars(Sampling())}
        said = {name: value for name, value in said.items() if owned.get(name, said["sampler"]) == said["sampler"]}
        said["corrections"] = said["corrections"] or None
        return [word for name, value in said.items() if value is not None for word in (f"--{name}", str(value))]


chooses_a_sampler = gathers("sampling", Sampling)
