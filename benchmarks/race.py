"""The race: same images, same minutes, same machine; how good are 1,024 samples, and how long do they take?

    python benchmarks/race.py --track clothes --entrant diffusers --slice 8
    python benchmarks/race.py --track clothes --entrant fromnoise --minutes 1 3
    python benchmarks/race.py --report

A rival trains once, for the longest of its minutes, and is sampled and scored on the way while its clock stands. The
same command goes on where the last slice ended, step for step as if it had not. fromnoise trains afresh for each of
its minutes by the command line alone, with empty caches. A clock starts before the entrant's libraries are imported.
Finished work is a line of docs/race.jsonl and is not done again unless --again asks for it.
"""

import argparse
import sys
import time
from pathlib import Path

from race_tracks import TRACKS, Track

ENTRANTS = ("fromnoise", "diffusers", "diffusers-tuned", "local-patches")
STAGES = ("train", "sample", "score")


def main() -> None:
    """Do what is next, for as long as the slice lasts."""
    asked = arguments()
    if asked.report:
        from race_report import report

        report(Path(__file__).parents[1] / "docs")
        return
    track = TRACKS[asked.track]
    track.prepare()
    began = time.monotonic()
    ends = began + 60 * asked.slice
    if asked.entrant in ("diffusers", "diffusers-tuned"):
        from race_units import race_rival

        minutes = asked.minutes or budgets_of_rival(track)
        race_rival(track, asked.entrant, minutes, asked.stage, began, ends)
    else:
        from race_ours import race_ours

        race_ours(track, asked.entrant, asked.minutes or track.budgets, asked.stage, asked.again)


def budgets_of_rival(track: Track) -> list[float]:
    """In minutes, rising."""
    return sorted({*track.budgets, track.longest})


def arguments() -> argparse.Namespace:
    """As the user gave them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", choices=TRACKS)
    parser.add_argument("--entrant", choices=ENTRANTS)
    parser.add_argument("--minutes", type=float, nargs="+", help="budgets, all of the track by default")
    parser.add_argument("--slice", type=float, default=1e6, help="minutes after which a rival stops until next time")
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES, help="what to do, all by default")
    parser.add_argument("--again", action="store_true", help="do what is finished once more, and replace it")
    parser.add_argument("--report", action="store_true", help="make docs/race.md and its pictures of the lines")
    asked = parser.parse_args()
    if not asked.report and not (asked.track and asked.entrant):
        parser.error("give --track and --entrant, or --report")
    return asked


if __name__ == "__main__":
    sys.exit(main())
