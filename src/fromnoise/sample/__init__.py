"""From noise to images: time grids, pure steppers, and the one loop.

Notation contract
    t -> s is one step down, s < t; the last step of every grid ends at s = 0, the image itself.
    z = x / alpha and r = sigma / alpha are the normalised coordinates of denoise.py; lam = log_snr / 2 = -log r.
    A stepper is a pure function (denoise, schedule, x_t, t, s, state, noise) -> (x_s, state):
        denoise(x_t, t) -> x0_hat, noise(k) -> the k-th keyed standard normal of this step, state None at the start.
A sampler is a stepper and a grid; ``adaptive`` is none, as each image chooses its own steps between the times.
Watching is iterating: ``trajectory`` yields every Step, the result is the last x_s.
"""

from fromnoise.sample.adaptive import adaptive
from fromnoise.sample.corrected import corrected
from fromnoise.sample.grids import GRIDS, Grid, cosine_grid, inner_grid, karras_grid, log_snr_grid, uniform_grid
from fromnoise.sample.loop import start_noise, trajectory
from fromnoise.sample.multistep import dpm_2m, dpm_2m_sde, dpm_3m, unipc_1, unipc_2, unipc_3
from fromnoise.sample.sampler import SAMPLERS, STEPPERS, Sampler
from fromnoise.sample.single import ddim, heun
from fromnoise.sample.step import Denoise, Noise, State, Step, Stepper, Update

__all__ = [
    "GRIDS",
    "SAMPLERS",
    "STEPPERS",
    "Denoise",
    "Grid",
    "Noise",
    "Sampler",
    "State",
    "Step",
    "Stepper",
    "Update",
    "adaptive",
    "corrected",
    "cosine_grid",
    "ddim",
    "dpm_2m",
    "dpm_2m_sde",
    "dpm_3m",
    "heun",
    "inner_grid",
    "karras_grid",
    "log_snr_grid",
    "start_noise",
    "trajectory",
    "uniform_grid",
    "unipc_1",
    "unipc_2",
    "unipc_3",
]
