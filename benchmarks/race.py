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

from fromnoise.errors import FromnoiseError
from race_tracks import TRACKS

OURS, RIVALS = ("fromnoise", "local-patches"), ("diffusers", "diffusers-tuned")
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
    if asked.entrant in RIVALS:
        from race_units import race_rival

        race_rival(track, asked.entrant, asked.minutes or track.of_rivals, asked.stage, began, began + 60 * asked.slice)
    else:
        from race_ours import race_ours

        race_ours(track, asked.entrant, asked.minutes or track.budgets, asked.stage, asked.again)


def arguments() -> argparse.Namespace:
    """As the user gave them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--track", choices=TRACKS)
    parser.add_argument("--entrant", choices=(*OURS, *RIVALS))
    parser.add_argument("--minutes", type=float, nargs="+", help="budgets, all of the track by default")
    parser.add_argument("--slice", type=float, default=1e6, help="minutes after which a rival stops until next time")
    parser.add_argument("--stage", choices=STAGES, nargs="+", default=STAGES, help="what to do, all by default")
    parser.add_argument("--again", action="store_true", help="fromnoise: do what is finished once more")
    parser.add_argument("--report", action="store_true", help="make the end of docs/speed.md and its pictures")
    asked = parser.parse_args()
    if not asked.report and not (asked.track and asked.entrant):
        parser.error("give --track and --entrant, or --report")
    if asked.again and asked.entrant in RIVALS:
        parser.error("a rival trains once: move its work folder away and its lines out of docs/race.jsonl")
    return asked


if __name__ == "__main__":
    try:
        main()
    except FromnoiseError as error:
        sys.exit(f"race: {error}")
