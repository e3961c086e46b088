"""Whether the few evaluations that a run samples with are as good as many: distances of both to held-out pictures.

Samples of the same noise and classes by the run's own sampler and by 200 evaluations of its net, on its own grid and on
log-snr; Lite0 features, beside the held-out pictures of the run. It takes some minutes.

    python benchmarks/evaluations.py runs/menagerie runs/clothes
"""

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path

from fromnoise.errors import FromnoiseError
from fromnoise.evaluate import load_lite0
from fromnoise.evaluate.distances import frechet_distance, kernel_distance
from fromnoise.evaluate.features import features
from fromnoise.evaluate.score import draw
from fromnoise.images import evenly
from fromnoise.machine import keep_memory
from fromnoise.model import Model, last
from fromnoise.run_folder import RunFolder, load
from fromnoise.sample import Sampler
from fromnoise.session import images_of

N, MANY = 1024, 200


def main() -> None:
    """A line for each run and sampler, also appended to results/evaluations.jsonl."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    runs = parser.parse_args().runs
    keep_memory()
    net, results = load_lite0(), Path(__file__).parent / "results"
    results.mkdir(exist_ok=True)
    for run in runs:
        model, images = load(run), images_of(RunFolder(run))
        heldout = features(images.spec.shown(images.values[evenly(images.heldout, N)]), net)
        for sampler in (model.sampler, *(many(model, grid) for grid in ("inner", "log-snr"))):
            chosen = sampled_by(model, sampler)
            seen = features(images.spec.shown(draw(chosen, images, N, 0)), net)
            kid, frechet = kernel_distance(seen, heldout), frechet_distance(seen, heldout)
            nfe = evaluations(chosen)
            line = {"run": str(run), "images_seen": model.images_seen, "nfe": nfe, "grid": sampler.grid}
            line |= {"kid": kid.value, "kid_error": kid.error, "frechet": frechet.value}
            print(json.dumps(line), flush=True)
            with (results / "evaluations.jsonl").open("a") as file:
                file.write(json.dumps(line) + "\n")


def sampled_by(model: Model, sampler: Sampler) -> Model:
    """The same model with another sampler for its own."""
    return replace(model, recipe=model.recipe.model_copy(update={"sampler": sampler}))


def evaluations(model: Model) -> int:
    """Of its net, for an image."""
    return last(model.trajectory([0], labels=model.labels([0]))).nfe


def many(model: Model, grid: str) -> Sampler:
    """The model's own with as many steps on a grid as MANY evaluations last for."""
    own = model.sampler.changed(steps=100, grid=grid)
    return own.changed(steps=100 * MANY // evaluations(sampled_by(model, own)))


if __name__ == "__main__":
    try:
        main()
    except FromnoiseError as error:
        sys.exit(f"evaluations: {error}")
