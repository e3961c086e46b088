"""Figures of what a run makes: pictures coming out of noise, and how new they are."""

from typing import Annotated

import typer

from fromnoise.cli.look.asking import Asking, asks_a_run
from fromnoise.cli.look.common import (
    FILM_STEPS,
    STRIP_STEPS,
    FilmOption,
    OutOption,
    RunArgument,
    StillOption,
    listed,
    moves,
    still,
    target_of,
    write,
)
from fromnoise.cli.sampling import SamplerOption
from fromnoise.cli.show import echo, shown
from fromnoise.errors import UseError

TOGETHER = 4  # images in a reverse film
LEFT_AT = (80.0, 3.0, 1.0, 0.5, 0.2)  # noise ratios, near which branches leave their path

NumberOption = Annotated[int, typer.Option(min=0, help="Which image of the seed.")]


@asks_a_run
def reverse(
    run: RunArgument,
    number: Annotated[list[int] | None, typer.Option(min=0, help="Of an image of this seed; may be repeated.")] = None,
    n: Annotated[int | None, typer.Option("-n", min=1, help="The first so many numbers: 1, in a film 4.")] = None,
    *,
    asking: Asking,
    sampler: SamplerOption = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help=f"From noise to image: {STRIP_STEPS}, in a film {FILM_STEPS}.")
    ] = None,
    film: FilmOption = False,
    out: OutOption = None,
) -> None:
    """Images coming out of noise: x_t, what the model believes (x0_hat), and the noise it predicts, side by side.

    Shows the very images that `fromnoise sample --steps N` makes of the same seed and numbers. Goes to RUN/look by
    default.

    Examples:

        fromnoise look reverse runs/menagerie

        fromnoise look reverse runs/menagerie --number 7 --class panda

        fromnoise look reverse runs/menagerie -n 9 --out nine.gif

        fromnoise look reverse runs/faces --set angle=30,age=4
    """
    if number and n:
        raise UseError("-n and --number both say which images to show: leave one of them out.")
    target = target_of(out, film, run / "look" / "reverse")
    from fromnoise.chapters import reverse as chapter
    from fromnoise.look import reverse_film, reverse_strip

    asked, moving = asking.of(run), moves(target)
    finely = FILM_STEPS if moving else STRIP_STEPS
    model, chosen = asked.model, asked.model.recipe.sampler.changed(sampler, steps or finely)
    numbers = number or list(range(n or (TOGETHER if moving else 1)))
    trajectory = chapter(model, numbers, seed=asking.seed, sampler=chosen, **asked.told)
    names = [asked.name(k) for k in numbers]
    origin = asked.origin(f"seed {asking.seed}, {listed(names)}", chosen)
    spec, noising = model.spec, model.denoiser.schedule
    drawn = (
        reverse_film(trajectory, noising, spec, origin, calm=chosen.stochastic)
        if moving
        else reverse_strip(trajectory, noising, spec, names, origin)
    )
    words = [part for k in numbers for part in ("--number", k)]
    words += ["--sampler", chosen.stepper, "--steps", chosen.steps, *(["--film"] if moving else [])]
    write(drawn, target, "reverse", run, *words, *asked.words())
    who = "image" if len(numbers) == 1 else f"{len(numbers)} images"
    echo(f"{shown(target)}: {who} of seed {asking.seed} coming out of noise in {chosen.steps} steps.")


@asks_a_run
def samplers(
    run: RunArgument,
    number: NumberOption = 0,
    calls: Annotated[int, typer.Option(min=3, help="Of the model by each sampler, an odd number.")] = 15,
    *,
    asking: Asking,
    out: StillOption = None,
) -> None:
    """The same noise through every sampler of fixed steps, with equally many calls of the model.

    Examples:

        fromnoise look samplers runs/menagerie

        fromnoise look samplers runs/menagerie --calls 7 --number 2
    """
    target = still(out, run / "look" / "samplers.png")
    from fromnoise.chapters import by_sampler
    from fromnoise.look import samplers_strip

    asked = asking.of(run)
    model = asked.model
    ways = by_sampler(model, number, calls, seed=asking.seed, **asked.told)
    origin = f"{asked.origin(f'seed {asking.seed}, {asked.name(number)}')} · log-snr grid"
    figure = samplers_strip(ways, model.denoiser.schedule, model.spec, origin)
    write(figure, target, "samplers", run, "--number", number, "--calls", calls, *asked.words())
    echo(f"{shown(target)}: number {number} of seed {asking.seed} by {len(ways)} samplers.")


@asks_a_run
def seeds(
    run: RunArgument,
    n: Annotated[int, typer.Option("-n", min=1, help="So many seeds, from --seed on.")] = 6,
    number: NumberOption = 0,
    *,
    asking: Asking,
    out: StillOption = None,
) -> None:
    """One picture from several seeds, all else being the same: what is up to the noise alone.

    Examples:

        fromnoise look seeds runs/menagerie

        fromnoise look seeds runs/menagerie -n 8 --class panda
    """
    target = still(out, run / "look" / "seeds.png")
    from fromnoise.chapters import by_seed
    from fromnoise.look import seeds_strip

    asked, first = asking.of(run), asking.seed
    model, chosen = asked.model, asked.model.recipe.sampler.changed(steps=STRIP_STEPS)
    ways = by_seed(model, number, range(first, first + n), sampler=chosen, **asked.told)
    origin = asked.origin(f"seeds {first} to {first + n - 1}, {asked.name(number)}", chosen)
    figure = seeds_strip(ways, model.denoiser.schedule, model.spec, origin)
    write(figure, target, "seeds", run, "-n", n, "--number", number, *asked.words())
    echo(f"{shown(target)}: number {number} from {n} seeds.")


@asks_a_run
def branches(
    run: RunArgument,
    number: NumberOption = 0,
    n: Annotated[int, typer.Option("-n", min=2, help="Branches each time.")] = 6,
    steps: Annotated[int, typer.Option(min=2, help="Of ddpm, from noise to image.")] = 32,
    *,
    asking: Asking,
    out: StillOption = None,
) -> None:
    """One path from noise to a picture, left at several noise levels with fresh noise: what is decided when.

    Examples:

        fromnoise look branches runs/menagerie

        fromnoise look branches runs/menagerie --number 3 -n 8
    """
    target = still(out, run / "look" / "branches.png")
    from fromnoise.chapters import branches as chapter
    from fromnoise.look import branches_strip

    asked = asking.of(run)
    model = asked.model
    grown = chapter(model, number, LEFT_AT, n, steps=steps, seed=asking.seed, **asked.told)
    chosen = model.recipe.sampler.changed("ddpm", steps)
    origin = asked.origin(f"seed {asking.seed}, {asked.name(number)}", chosen)
    figure = branches_strip(grown, model.denoiser.schedule, model.spec, origin)
    write(figure, target, "branches", run, "--number", number, "-n", n, "--steps", steps, *asked.words())
    echo(f"{shown(target)}: number {number} of seed {asking.seed}, left {len(grown)} times for {n} branches.")


@asks_a_run
def nearest(
    run: RunArgument,
    n: Annotated[int, typer.Option("-n", min=1, help="Samples; those nearest to a training picture are shown.")] = 64,
    *,
    asking: Asking,
    out: StillOption = None,
) -> None:
    """New pictures beside the nearest training and held-out ones: learned, or copied?

    Examples:

        fromnoise look nearest runs/menagerie

        fromnoise look nearest runs/menagerie -n 256
    """
    target = still(out, run / "look" / "nearest.png")
    from fromnoise.chapters import nearest as chapter
    from fromnoise.look import nearest_sheet
    from fromnoise.run_folder import RunFolder
    from fromnoise.session import images_of

    asked, images = asking.of(run), images_of(RunFolder(run))
    model, class_name = asked.model, asking.class_name
    found = chapter(model.sample(n, seed=asking.seed, **asked.told), images)
    which = f"seed {asking.seed}, numbers 0 to {n - 1}{f', class {class_name}' if class_name else ''}"
    figure = nearest_sheet(found, images, asked.origin(which, model.recipe.sampler))
    write(figure, target, "nearest", run, "-n", n, *asked.words())
    echo(f"{shown(target)}: {n} samples and the pictures nearest to them.")
