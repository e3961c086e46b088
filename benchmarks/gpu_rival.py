"""diffusers on a GPU, trained as its users do: its U-Net in its own proportions, its DDPM noising, a plain loop.

bfloat16 by autocast, channels last, a fused AdamW, images already on the device. Nothing is waited for in the loop.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

LEVELS = 1000
GROUP = 16  # channels the widths are multiples of, and groups of its norms


def unet(side: int, parameters: float) -> tuple[UNet2DModel, int]:
    """UNet2DModel with its default blocks and proportions (1, 2, 3, 4), as wide as comes near to ``parameters``.

    Also the operations of one forward pass of one image.
    """
    with torch.device("meta"):
        square = count(of_width(side, 4 * GROUP)) / (4 * GROUP) ** 2
    width = GROUP * max(1, round((parameters / square) ** 0.5 / GROUP))
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counted:
        of_width(side, width)(torch.zeros(1, 3, side, side), 0)
    return of_width(side, width), counted.get_total_flops()


def of_width(side: int, width: int) -> UNet2DModel:
    """So many channels at its finest level."""
    widths = tuple(width * k for k in (1, 2, 3, 4))
    return UNet2DModel(side, 3, 3, block_out_channels=widths, norm_num_groups=GROUP)


def count(net: nn.Module) -> int:
    """Numbers that are learned."""
    return sum(weight.numel() for weight in net.parameters())


@dataclass
class Rival:
    """A net in training; ``net`` takes a noisy image, the number of its level and perhaps its class."""

    net: nn.Module
    rate: float
    device: str
    optimizer: torch.optim.Optimizer = field(init=False)
    noising: DDPMScheduler = field(init=False)
    seen: int = field(init=False, default=0)  # images

    def __post_init__(self) -> None:
        self.net = self.net.to(self.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.AdamW(self.net.parameters(), self.rate, fused=True)
        self.noising = DDPMScheduler(LEVELS)

    def update(self, x0: Tensor, **told: Tensor) -> Tensor:
        """One step on (B, C, H, W) in [-1, 1]; gives its loss, on the device."""
        noise, level = torch.randn_like(x0), torch.randint(LEVELS, (len(x0),), device=self.device)
        with torch.autocast(self.device, torch.bfloat16):
            answer = self.net(self.noising.add_noise(x0, noise, level), level, **told).sample
        loss = functional.mse_loss(answer.float(), noise)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.seen += len(x0)
        return loss.detach()


def wait(device: str) -> None:
    """Until the device has done all it was asked."""
    if device == "cuda":
        torch.cuda.synchronize()


def on(x0: Tensor, rival: Rival) -> Callable[[], Tensor]:
    """Steps on the same images again and again: what is measured does not depend on what they show."""
    x0 = x0.to(rival.device, memory_format=torch.channels_last)
    return lambda: rival.update(x0)
