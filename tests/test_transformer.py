"""The transformer: any size in and out, a fresh one answers zero, where a patch lies counts, a recipe can name it."""

from collections.abc import Iterator

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from fromnoise.nets import ImageSpec, Transformer, TransformerSpec, UNetSpec, build
from fromnoise.nets.transformer import Layer, positions
from fromnoise.noise import Condition
from fromnoise.recipe import Recipe, training_flops
from tiny import awake, normals, one_thread, recipe

SPEC = TransformerSpec(channels=3, classes=2, numbers=1, patch=2, width=64, depth=2)
ALONE = 2e-5  # one image alone or in a batch: the same sums in another order, answers of order one


@pytest.fixture(autouse=True, scope="module")
def alone() -> Iterator[None]:
    with one_thread():
        yield


def transformer(**fields: object) -> Transformer:
    """A small one with random weights everywhere."""
    net = awake(Transformer(TransformerSpec.model_validate(SPEC.model_dump() | fields)))
    assert isinstance(net, Transformer)
    return net


@pytest.mark.parametrize("size", [(1, 1), (2, 9), (5, 7), (8, 8)])
@pytest.mark.parametrize(("channels", "patch"), [(1, 1), (3, 2), (4, 3)])
@torch.no_grad()
def test_what_comes_out_has_the_shape_of_what_went_in(size: tuple[int, int], channels: int, patch: int) -> None:
    x = normals(2, channels, *size)
    out = transformer(channels=channels, patch=patch)(x, torch.zeros(2), Condition())
    assert out.shape == x.shape
    assert bool(torch.isfinite(out).all()) and float(out.std()) > 0


@pytest.mark.parametrize("size", [(5, 7), (6, 3), (1, 8)])
@torch.no_grad()
def test_a_size_that_does_not_divide_is_an_image_in_the_middle_of_zeros(size: tuple[int, int]) -> None:
    net, x, (height, width) = transformer(patch=4), normals(1, 3, *size), size
    wide = torch.zeros(1, 3, height + -height % 4, width + -width % 4)
    top, left = (wide.shape[2] - height) // 2, (wide.shape[3] - width) // 2
    wide[..., top : top + height, left : left + width] = x
    within = net(wide, torch.zeros(1), Condition())[..., top : top + height, left : left + width]
    torch.testing.assert_close(net(x, torch.zeros(1), Condition()), within, rtol=0, atol=ALONE)


@torch.no_grad()
def test_a_fresh_net_answers_exactly_zero_and_its_layers_change_nothing() -> None:
    net = Transformer(SPEC)
    assert not net(normals(2, 3, 8, 8), torch.zeros(2), Condition(torch.tensor([0, -1]))).any()
    x = normals(2, 16, 64)
    for layer in net.layers:
        assert torch.equal(layer(x, normals(2, 64)), x)


@torch.no_grad()
def test_a_layer_sees_positions_as_a_set_and_the_net_as_a_grid() -> None:
    """Patches moved about move a layer's answers with them and change nothing else; not so the net's."""
    net, order = transformer(), torch.randperm(16, generator=torch.Generator().manual_seed(0))
    layer, x, told = net.layers[0], normals(2, 16, 64), normals(2, 64, seed=2)
    assert isinstance(layer, Layer)
    torch.testing.assert_close(layer(x[:, order], told), layer(x, told)[:, order], rtol=0, atol=ALONE)
    image = normals(1, 3, 8, 8)
    moved = functional.unfold(image, 2, stride=2)[..., order]
    answers = [
        functional.unfold(net(shown, torch.zeros(1), Condition()), 2, stride=2)
        for shown in (image, functional.fold(moved, (8, 8), 2, stride=2))
    ]
    assert float((answers[0][..., order] - answers[1]).abs().max()) > 100 * ALONE


@pytest.mark.parametrize(("height", "width"), [(4, 4), (3, 7), (32, 32)])
def test_no_two_positions_are_told_alike_and_the_middle_stays_where_it_was(height: int, width: int) -> None:
    told = positions(height, width, torch.zeros(1, 1, 64))
    apart = torch.cdist(told, told) + 9.0 * torch.eye(len(told))
    assert float(apart.min()) > 0.05
    wider = positions(height + 2, width + 4, torch.zeros(1, 1, 64)).view(height + 2, width + 4, -1)
    torch.testing.assert_close(wider[1:-1, 2:-2].flatten(0, 1), told, rtol=0, atol=1e-5)


@torch.no_grad()
def test_one_image_alone_is_answered_as_in_a_batch_and_hears_what_it_is_told() -> None:
    net, x, level = transformer(), normals(4, 3, 8, 6), torch.linspace(-1, 1, 4)
    condition = Condition(torch.tensor([0, 1, -1, 0]), torch.tensor([[0.5], [torch.nan], [-1.0], [2.0]]))
    together = net(x, level, condition)
    for k in range(4):
        alone = net(x[k : k + 1], level[k : k + 1], condition.rows(torch.tensor([k])))
        torch.testing.assert_close(alone[0], together[k], rtol=0, atol=ALONE)
    same = x[:1].expand(4, -1, -1, -1)
    told = [net(same, level, Condition()), net(same, torch.zeros(4), condition)]
    for answers in told:
        assert all(not torch.allclose(a, b, atol=1e-3) for k, a in enumerate(answers) for b in answers[:k])


def test_a_gradient_reaches_every_weight() -> None:
    net = transformer()
    condition = Condition(torch.tensor([0, 1, -1]), torch.tensor([[0.5], [torch.nan], [-1.0]]))
    net(normals(3, 3, 8, 8), torch.linspace(-1, 1, 3), condition).square().mean().backward()
    silent = {name for name, w in net.named_parameters() if w.grad is None or not float(w.grad.abs().max()) > 0}
    assert not silent


def test_muon_moves_what_every_position_passes_through() -> None:
    net = Transformer(SPEC)
    layers = ("query_key_value", "out", "widen", "narrow")
    assert net.matrices == {f"layers.{k}.{name}.weight" for k in range(2) for name in layers}


@torch.no_grad()
def test_a_compiled_net_has_the_same_weights_and_answers() -> None:
    """As traced; what a compiler makes of it is the test of a machine that has one (test_devices.py)."""
    net, x, level = transformer(), normals(2, 3, 8, 8), torch.zeros(2)
    with torch.compiler.set_stance("force_eager"):
        assert torch.equal(net.compiled()(x, level, Condition()), net(x, level, Condition()))


# --- in a recipe ---


def test_a_recipe_names_it_and_goes_through_json() -> None:
    made = recipe(net={"kind": "transformer", "width": 128})
    assert made.net == TransformerSpec(channels=3, classes=2, width=128)
    again = Recipe.model_validate_json(made.model_dump_json())
    assert again == made and isinstance(build(again.net), Transformer)


def test_a_recipe_of_the_time_before_is_one_of_a_u_net() -> None:
    made = recipe()
    stored = made.model_dump(mode="json")
    assert stored["net"].pop("kind") == "unet"
    assert Recipe.model_validate(stored) == made


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"kind": "transformer", "width": 100}, "width"),
        ({"kind": "transformer", "blocks": [1]}, "blocks"),
        ({"kind": "mlp"}, "there are unet and transformer"),
    ],
)
def test_a_kind_that_is_not_there_or_does_not_fit_its_fields_is_refused(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        recipe(net=fields)


@pytest.mark.parametrize("width", [64, 128, 320])
@pytest.mark.parametrize("spec", [SPEC, UNetSpec(channels=3, width=16, multipliers=(1, 2), blocks=(1, 2))])
def test_operations_are_those_that_torch_counts(spec: TransformerSpec | UNetSpec, width: int) -> None:
    """Three forward passes of convolutions, linear layers and attention, the widths in between never built."""
    wide = spec.model_copy(update={"width": width})
    in_products = sdpa_kernel(SDPBackend.MATH)  # the fused kernel of a processor is not counted
    with torch.no_grad(), in_products, FlopCounterMode(display=False) as counted:
        build(wide)(torch.zeros(1, 3, 12, 8), torch.zeros(1), Condition())
    assert training_flops(wide, 12, 8) == 3 * counted.get_total_flops()


def test_specs_are_told_apart_by_their_kind() -> None:
    adapter: TypeAdapter[UNetSpec | TransformerSpec] = TypeAdapter(ImageSpec)
    for spec in (SPEC, UNetSpec(channels=1)):
        net: nn.Module = build(adapter.validate_json(adapter.dump_json(spec)))
        assert net.spec == spec
