"""The one table between the things a network may predict: x0, eps, v, velocity and score.

Notation contract
    x_t = alpha x0 + sigma eps, alpha > 0 and sigma > 0 given as numbers or as tensors that multiply x_t.
    v        = alpha eps - sigma x0        (Salimans, Ho 2022, arXiv 2202.00512, appendix D; variance preserving)
    velocity = eps - x0                    (Lipman et al. 2023, arXiv 2210.02747, dx_t/dt of the flow schedule)
    score    = (alpha x0 - x_t) / sigma**2 (Vincent 2011; Tweedie's formula)
Everything passes through x0: to convert is to find x0 and to read the target off it.
"""

from collections.abc import Callable

from torch import Tensor

Number = float | Tensor

TO_X0: dict[str, Callable[[Tensor, Tensor, Number, Number], Tensor]] = {
    "x0": lambda value, x_t, alpha, sigma: value,
    "eps": lambda value, x_t, alpha, sigma: (x_t - sigma * value) / alpha,
    "v": lambda value, x_t, alpha, sigma: (alpha * x_t - sigma * value) / (alpha**2 + sigma**2),
    "velocity": lambda value, x_t, alpha, sigma: (x_t - sigma * value) / (alpha + sigma),
    "score": lambda value, x_t, alpha, sigma: (x_t + sigma**2 * value) / alpha,
}

FROM_X0: dict[str, Callable[[Tensor, Tensor, Number, Number], Tensor]] = {
    "x0": lambda x0, x_t, alpha, sigma: x0,
    "eps": lambda x0, x_t, alpha, sigma: (x_t - alpha * x0) / sigma,
    "v": lambda x0, x_t, alpha, sigma: alpha * (x_t - alpha * x0) / sigma - sigma * x0,
    "velocity": lambda x0, x_t, alpha, sigma: (x_t - (alpha + sigma) * x0) / sigma,
    "score": lambda x0, x_t, alpha, sigma: (alpha * x0 - x_t) / sigma**2,
}

PREDICTIONS = tuple(TO_X0)


def convert(value: Tensor, x_t: Tensor, alpha: Number, sigma: Number, source: str, target: str) -> Tensor:
    """``value``, a prediction of kind ``source`` at x_t, said as one of kind ``target``; kinds as in PREDICTIONS.

    Raises KeyError for an unknown kind.
    """
    return FROM_X0[target](TO_X0[source](value, x_t, alpha, sigma), x_t, alpha, sigma)
