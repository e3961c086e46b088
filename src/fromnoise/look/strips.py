"""An image on its way into noise, and out of it: all steps side by side."""

from collections.abc import Sequence

from fromnoise.images import ValueSpec
from fromnoise.look import colour
from fromnoise.look.histogram import histogram
from fromnoise.look.page import Figure, Row, compose, scale, table
from fromnoise.look.views import View, cell, drawn, levels, noisy, scaled, spaced, view
from fromnoise.noise import NoisyPair, Schedule
from fromnoise.sample import Step

SIDE = 128  # pixels a side that a picture of a strip is enlarged to at most; larger ones stay as they are
COLUMNS = 8  # steps shown of a longer trajectory

FORWARD, REVERSE = "From a picture to noise", "From noise to a picture"
LEVELS = (("t",), ("noise ratio σ / α",), ("signal to noise α² / σ²",))
NOISY = ("noisy picture", "x_t")
BELIEF = ("the model believes", "x0_hat")
NOISE = ("predicted noise", "(x_t − α x0_hat) / σ")


def forward_strip(pairs: Sequence[NoisyPair], schedule: Schedule, spec: ValueSpec, origin: str) -> Figure:
    """For each image a row of pictures and one of histograms, from the first pair to the last; the levels beneath.

    ``pairs``: the same images at each noise level. ``origin``: what they are, in a few words.
    """
    shown = [noisy(pair, schedule, spec) for pair in pairs]
    rows: list[Row] = []
    for b in range(len(pairs[0].x0)):
        cells = [cell(values[b], SIDE) for values, _ in shown]
        bells = [histogram(scaled(pair, schedule)[b], cells[0].shape[1], 48) for pair in pairs]
        rows.append(Row(cells, NOISY))
        rows.append(Row(bells, ("its values, −3 to 3", "line: pure noise"), framed=False))
    rows += _level_rows([float(pair.t[0]) for pair in pairs], schedule)
    caption = forward_caption(max(share for _, share in shown))
    return compose(table(rows), FORWARD, caption, origin)


def reverse_strip(
    steps: Sequence[Step], schedule: Schedule, spec: ValueSpec, names: Sequence[str], origin: str
) -> Figure:
    """For each image x_t, x0_hat and the predicted noise, at up to eight steps, then the finished image.

    ``names``: what each image is, shown where there are several. ``origin``: how they were made, in a few words.
    """
    views = [view(step, schedule, spec) for step in spaced(steps, COLUMNS)]
    finished, _ = colour.pictures(steps[-1].x_s, spec)
    bar = scale(colour.signed_bar(spec.channels, 120, 10), "−3", "3")
    rows = list(_level_rows([*(each.t for each in views), 0.0], schedule)[:2])
    for b, name in enumerate(names):
        rows += [Row([], (name,), gap=4)] if len(names) > 1 else []
        rows.append(Row([*(cell(each.x_t[b], SIDE) for each in views), cell(finished[b], SIDE)], NOISY))
        rows.append(Row([*(cell(each.x0_hat[b], SIDE) for each in views), "finished"], BELIEF))
        rows.append(Row([cell(each.noise[b], SIDE) for each in views], NOISE, bar, gap=24))
    return compose(table(rows), REVERSE, reverse_caption(views), origin)


def forward_caption(outside: float) -> str:
    """The one sentence under forward strips and films; ``outside`` as in ``drawn``."""
    return (
        "At every t more of the same noise ε is mixed in, x_t = α x0 + σ ε, until nothing else is left; "
        f"{drawn(outside)}."
    )


def reverse_caption(views: Sequence[View]) -> str:
    """The one sentence under reverse strips and films."""
    return (
        "At every step the model says which picture it believes is hidden in the noise, and what it holds for noise "
        f"is partly taken away; {drawn(max(each.outside for each in views))}, noise from −3 to 3 standard deviations."
    )


def _level_rows(times: Sequence[float], schedule: Schedule) -> list[Row]:
    columns = zip(*(levels(t, schedule) for t in times), strict=True)
    return [Row(cells, label) for cells, label in zip(columns, LEVELS, strict=True)]
