"""What training on a set would be: the recipe for ten minutes on this machine, and the memory and disk it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from fromnoise.images import ImageSet
from fromnoise.machine import Machine
from fromnoise.nets import ImageNet, build
from fromnoise.noise import Condition
from fromnoise.recipe import Pictures, Recipe, auto

MINUTES = 10.0
BUFFERS = 1.5


@dataclass(frozen=True)
class Forecast:
    """Derived by ``recipe.auto``; nothing of it is stored."""

    minutes: float
    recipe: Recipe
    parameters: int
    state_bytes: int  # weights, gradients, both averages, one or two moments of the optimizers, in float32
    kept_bytes: int  # what a batch keeps of its way through the net for the way back, in float32
    checkpoint_bytes: int  # weights, both averages, moments

    @property
    def training_bytes(self) -> int:
        """Memory that training takes beside the program itself: ``BUFFERS`` times what is kept, for what is computed.

        Measured on a processor the peak was 0.9 to 1.1 times this, in float32 and bfloat16, at 32 and 64 pixels.
        """
        return self.state_bytes + int(BUFFERS * self.kept_bytes)


def forecast(source: str, images: ImageSet, machine: Machine) -> Forecast:
    """The recipe that ``train`` would begin with for ten minutes on ``machine``."""
    return of_recipe(auto(Pictures.of(source, images), machine, MINUTES))


def of_recipe(recipe: Recipe) -> Forecast:
    """Memory and disk by counting: 4 bytes a number, for each weight, gradient, average and moment, and for each value
    that the pass of one image keeps, times the batch."""
    net = build(recipe.net)
    matrices = net.matrices  # these have one moment, Muon's, the others two
    sizes = {name: weight.numel() for name, weight in net.named_parameters()}
    moments = sum(number * (1 if name in matrices else 2) for name, number in sizes.items())
    parameters = sum(sizes.values())
    averages = 1 if recipe.earlier_at is None else 2
    return Forecast(
        minutes=MINUTES,
        recipe=recipe,
        parameters=parameters,
        state_bytes=4 * ((2 + averages) * parameters + moments),
        kept_bytes=recipe.batch * _kept_of_one(net, recipe),
        checkpoint_bytes=4 * ((1 + averages) * parameters + moments),
    )


def _kept_of_one(net: ImageNet, recipe: Recipe) -> int:
    """Bytes that the pass of one image keeps until the gradients are taken, the weights themselves left out."""
    pictures = recipe.pictures
    condition = Condition(
        class_index=torch.zeros(1, dtype=torch.long) if pictures.classes else None,
        numbers=torch.zeros(1, len(pictures.numbers)) if pictures.numbers else None,
    )
    own = {weight.untyped_storage().data_ptr() for weight in net.parameters()}
    with _saved() as storages:
        answer = net(torch.zeros(1, pictures.channels, pictures.height, pictures.width), torch.zeros(1), condition)
        del answer
    return sum(size for pointer, size in storages.items() if pointer not in own)


@contextmanager
def _saved() -> Iterator[dict[int, int]]:
    """The storages that autograd keeps inside: address -> bytes."""
    storages: dict[int, int] = {}
    held = []  # so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        held.append(storage)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield storages
