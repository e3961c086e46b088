"""Image space with two axes: a small net learns where two pixels of real images lie. Writes two_pixels.png."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from fromnoise import MLP, SCHEDULES, MLPSpec, NetDenoiser, Sampler, corrupt, open_images, trajectory
from fromnoise.denoise import edm_weight, log_normal_levels, stratified
from fromnoise.durable import write_file

torch.manual_seed(0)
images = open_images("menagerie:4000", size=(32, 32))
points = images.x0(range(len(images)))[:, 0, [14, 18], [10, 16]]  # red of two pixels, (4000, 2) in [-1, 1]
schedule, net = SCHEDULES["edm"](), MLP(MLPSpec(dimensions=2))
denoiser = NetDenoiser(net, schedule, float(points.std()))
optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
for k in range(1500):
    x0 = points[torch.randint(len(points), (256,))]
    log_snr = log_normal_levels(stratified(torch.rand(256)), -1.2, 1.2)
    pair = corrupt(schedule, x0, torch.randn_like(x0), schedule.t_at(log_snr))
    loss = denoiser.loss(pair, edm_weight(log_snr, denoiser.sigma_data)).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if k % 500 == 499:
        print(f"step {k + 1}: loss {loss:.3f}")

sampler = Sampler(steps=20)
times = sampler.times(schedule)
paths = [80.0 * torch.randn(2000, 2)]
paths += [step.x_s for step in trajectory(denoiser, paths[0], times, sampler.step())]
figure, axes = plt.subplots(1, 2, figsize=(8, 4), sharex=True, sharey=True)
for axis, cloud, title in zip(axes, (points, paths[-1]), ("two pixels of 4,000 images", "2,000 samples"), strict=True):
    axis.scatter(*(127.5 * (cloud + 1)).T, s=2, alpha=0.4)
    axis.set(title=title, xlabel="pixel 1", ylabel="pixel 2", xlim=(0, 255), ylim=(0, 255), aspect="equal")
buffer = io.BytesIO()
figure.savefig(buffer, format="png", dpi=120)
write_file(Path("two_pixels.png"), buffer.getvalue())
