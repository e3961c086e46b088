"""diffusers in the race: its U-Net trained in slices of time that together are one training, and its samples.

``diffusers`` is what its course teaches (Hugging Face diffusion course, unit 1, notebook 2: the net, batch 128, Adam at
1e-3; DDPM noise prediction, float32). ``diffusers-tuned`` is the same net with what helps it on a processor: bfloat16,
classes, an average of the weights, attention only where a side is at most 16. Its batch and rate were not searched
yet, which is what ``race_search.py`` is for. Not channels-last, nor attention in two products, both of which make its
step slower here: its group norms take seven times as long, its heads are narrow.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, DPMSolverMultistepScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.nn import functional

from fromnoise import keyed
from race_tracks import N, Part

SEED = 0
CALLS = 20  # of the net, for each image
LEVELS = 1000
WIDTHS = (32, 64, 64)
ATTENDED = 16  # pixels of a side, at most, that the tuned net has attention on


@dataclass(frozen=True)
class Settings:
    """How a rival is trained."""

    batch: int
    rate: float
    tuned: bool  # in bfloat16 where autocast has it, told the class, sampled by its EMA


SETTINGS = {"diffusers": Settings(128, 1e-3, False), "diffusers-tuned": Settings(64, 1e-3, True)}


class Rival:
    """A net in training. Everything random is a function of the number of the step, so going on is exact."""

    def __init__(self, settings: Settings, part: Part, widths: tuple[int, ...] = WIDTHS, device: str = "cpu") -> None:
        self.settings, self.part, self.device = settings, part, device
        encoded = part.spec.encode(part.images).transpose(0, 3, 1, 2)
        self.x0 = torch.from_numpy(np.ascontiguousarray(encoded)).to(device)
        self.labels = torch.from_numpy(part.labels).to(device)
        self.net = build(settings, part, widths).to(device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), settings.rate)
        # The constants of diffusers' own example, train_unconditional.py.
        self.ema = EMAModel(self.net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        self.noising = DDPMScheduler(LEVELS)
        self.steps, self.seconds = 0, 0.0

    @property
    def images_seen(self) -> int:
        """In all steps so far."""
        return self.steps * self.settings.batch

    @property
    def parameters(self) -> int:
        """Numbers that are learned."""
        return sum(each.numel() for each in self.net.parameters())

    def rows(self, step: int) -> Tensor:
        """Which images this step sees: every epoch in its own order, the last incomplete batch left out."""
        batch = self.settings.batch
        epoch, k = divmod(step, len(self.x0) // batch)
        return torch.from_numpy(keyed.permute(SEED, epoch, np.arange(k * batch, (k + 1) * batch), len(self.x0)))

    def loss(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """The mean square error of the predicted noise, DDPM's (Ho et al. 2020, arXiv 2006.11239, eq. 14)."""
        x0 = self.x0[rows]
        eps = torch.randn(x0.shape, generator=generator).to(self.device)
        t = torch.randint(LEVELS, (len(x0),), generator=generator).to(self.device)
        x_t = self.noising.add_noise(x0, eps, t)
        return functional.mse_loss(predicted(self.net, self.settings, x_t, t, self.labels[rows]), eps)

    def step(self) -> None:
        """One update."""
        generator = torch.Generator().manual_seed(keyed.integer(SEED, self.steps))
        self.optimizer.zero_grad()
        self.loss(self.rows(self.steps), generator).backward()
        self.optimizer.step()
        if self.settings.tuned:
            self.ema.step(self.net.parameters())
        self.steps += 1

    def train(self, until: float, ends: float, now: Callable[[], float]) -> bool:
        """Whether it has trained for ``until`` seconds in all; False where ``now`` reached ``ends`` before that."""
        before = now()
        while self.seconds < until and before < ends:
            self.step()
            after = now()
            self.seconds, before = self.seconds + after - before, after
        return self.seconds >= until

    def weights(self) -> dict[str, Tensor]:
        """Those it samples with."""
        if not self.settings.tuned:
            return _contiguous(self.net.state_dict())
        names = (name for name, _ in self.net.named_parameters())
        return _contiguous(dict(zip(names, self.ema.shadow_params, strict=True)))

    def state(self) -> dict[str, Tensor]:
        """All that training goes on from, beside ``steps`` and ``seconds``."""
        adam = self.optimizer.state_dict()["state"]
        found = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        found |= {f"adam.{k}.{name}": value for k, each in adam.items() for name, value in each.items()}
        return _contiguous(found | {f"ema.{k}": value for k, value in enumerate(self.ema.shadow_params)})

    def restore(self, state: Mapping[str, Tensor], steps: int, seconds: float) -> None:
        """Go back to a ``state``."""
        self.net.load_state_dict({name[4:]: value for name, value in state.items() if name.startswith("net.")})
        adam: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, k, what = name.split(".")
                adam.setdefault(int(k), {})[what] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": adam})
        for k, shadow in enumerate(self.ema.shadow_params):
            shadow.copy_(state[f"ema.{k}"])
        self.ema.optimization_step = self.steps = steps
        self.seconds = seconds


def build(settings: Settings, part: Part, widths: tuple[int, ...] = WIDTHS) -> UNet2DModel:
    """The course's net, attention on all levels but the finest, or tuned; always with the same first weights."""
    torch.manual_seed(SEED)
    _, height, width, channels = part.images.shape
    sides = [max(height, width) >> level for level in range(len(widths))]
    attends = [level > 0 and (side <= ATTENDED or not settings.tuned) for level, side in enumerate(sides)]
    return UNet2DModel(
        sample_size=(height, width),
        in_channels=channels,
        out_channels=channels,
        layers_per_block=2,
        block_out_channels=widths,
        down_block_types=tuple("AttnDownBlock2D" if each else "DownBlock2D" for each in attends),
        up_block_types=tuple("AttnUpBlock2D" if each else "UpBlock2D" for each in reversed(attends)),
        num_class_embeds=len(part.classes) if settings.tuned else None,
    )


def predicted(
    net: UNet2DModel, settings: Settings, x_t: Float[Tensor, "b c h w"], t: Tensor, labels: Tensor
) -> Float[Tensor, "b c h w"]:
    """The noise that the net finds, in float32."""
    if not settings.tuned:
        return net(x_t, t).sample
    with torch.autocast(x_t.device.type, torch.bfloat16):
        return net(x_t, t, labels).sample.float()


@torch.inference_mode()
def samples(net: UNet2DModel, settings: Settings, part: Part, first: int, n: int) -> UInt8[np.ndarray, "n h w c"]:
    """``n`` images from image number ``first`` on, by DPM-Solver++; classes as often as in training.

    With dynamic thresholding (Saharia et al. 2022, arXiv 2205.11487, section 2.3), as diffusers' documentation advises
    for models of pixels: without it most of these come out white, black or as static.
    """
    solver = DPMSolverMultistepScheduler.from_config(DDPMScheduler(LEVELS).config, thresholding=True)
    generator = torch.Generator().manual_seed(keyed.integer(SEED, 1, first))
    if not settings.tuned:
        pipeline = DDPMPipeline(net, solver)
        pipeline.set_progress_bar_config(disable=True)
        return part.spec.decode(pipeline(n, generator, CALLS, output_type="np").images * 2.0 - 1.0)[0]
    labels = torch.from_numpy(classes_of(part, first, n)).to(net.device)
    _, height, width, channels = part.images.shape
    x = torch.randn(n, channels, height, width, generator=generator).to(net.device)
    solver.set_timesteps(CALLS)
    for t in solver.timesteps:
        x = solver.step(predicted(net, settings, x, t.expand(n).to(x.device), labels), t, x).prev_sample
    return part.spec.decode(x.clamp(-1, 1).permute(0, 2, 3, 1).cpu().numpy())[0]


def classes_of(part: Part, first: int, n: int) -> Int64[np.ndarray, " n"]:
    """Of samples from number ``first`` on: each that of another training image, N of them spread evenly, as of ours."""
    return part.labels[np.arange(first, first + n) * len(part.labels) // N]


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """As safetensors takes them."""
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
