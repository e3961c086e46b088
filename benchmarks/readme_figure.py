"""The picture at the top of the README, from a run: four images out of noise, and a sheet of samples.

python benchmarks/readme_figure.py demo/run docs/fromnoise.png
"""

import sys
from pathlib import Path

import numpy as np

from fromnoise.chapters import reverse
from fromnoise.durable import write_file
from fromnoise.images import encode_png, enlarge
from fromnoise.noise import spread
from fromnoise.run_folder import load

STEPS = 16
SHOWN = (0, 5, 7, 8, 9, 10, 11, 12)  # steps of them, of which the first and last few look alike
FACTOR, GAP = 3, 6


def main() -> None:
    """Rows: one image each; columns: x_t at some steps, then the finished image."""
    run, out = sys.argv[1:]
    model = load(run)
    steps = reverse(model, range(4), seed=1, sampler=model.sampler.changed(steps=STEPS))
    columns = []
    for step in [steps[i] for i in SHOWN]:
        alpha, sigma = model.denoiser.schedule.alpha_sigma(step.t)
        values, _ = model.to_values(step.x_t / spread((alpha**2 + sigma**2).sqrt(), step.x_t))
        columns.append(values)
    columns.append(model.to_values(steps[-1].x_s)[0])
    rows = [np.concatenate([padded(column[row]) for column in columns], axis=1) for row in range(4)]
    text = f"fromnoise: x_t at steps {SHOWN} of {STEPS} and the finished images, {model.images_seen:,} images seen, "
    text += f"seed 1, guidance {model.guidance_of():g}"
    write_file(Path(out), encode_png(np.concatenate(rows), {"fromnoise": text}))


def padded(image: np.ndarray) -> np.ndarray:
    """Enlarged by a whole factor, with white around it."""
    return np.pad(enlarge(image, FACTOR), ((GAP, 0), (GAP, 0), (0, 0)), constant_values=255)


if __name__ == "__main__":
    main()
