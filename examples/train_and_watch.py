"""Train on pictures and look at every step: watching is iterating. A minute or less; writes runs/watched/."""

from fromnoise import load, open_session
from fromnoise.durable import write_file

# Small numbers, so that this ends soon. Leave `overrides` out and give minutes=10 for pictures worth showing.
session = open_session(
    "menagerie:400",
    run="runs/watched",
    size=(16, 16),
    overrides={"images_total": 1600, "net": {"width": 16, "multipliers": (1, 2), "blocks": (1, 1)}},
)
for step in session.fit():
    if step.sheet:
        heldout = sum(step.probe.heldout) / len(step.probe.heldout)
        print(f"{step.images_seen:5,} images seen, loss {step.loss:.3f}, held-out {heldout:.3f}, {step.sheet}")

model = load("runs/watched")
for name in model.classes:
    samples = model.sample(4, class_name=name, seed=1)
    print(f"{name}: {samples.images.shape}, mean value {samples.images.mean():.0f}")
    write_file(session.folder.path / f"{name}.png", samples._repr_png_())
