"""fromnoise runs."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fromnoise.cli.show import echo, shown


def runs(
    folder: Annotated[Path, typer.Argument(help="Where to look.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON record a run.")] = False,
) -> None:
    """List the runs in a folder: how far each is, and its last sheet.

    Examples:

        fromnoise runs

        fromnoise runs ~/experiments --json
    """
    found = sorted(path.parent for path in folder.glob("**/run.json"))
    if not found and not as_json:
        echo(f"No runs in {folder}. `fromnoise train PICTURES` begins one.")
    for path in found:
        record = _described(path)
        echo(json.dumps(record) if as_json else _line(record))


def _described(path: Path) -> dict[str, Any]:
    """Read without torch, so that a list is there at once."""
    recipe = json.loads((path / "run.json").read_text())["recipe"]
    plan = json.loads(max((path / "plan").glob("[0-9]*.json")).read_text())
    seen = [int(each.name.removeprefix("seen-")) for each in (path / "checkpoints").glob("seen-" + "[0-9]" * 12)]
    sheets = sorted((path / "sheets").glob("[0-9]*.png"))
    return {
        "run": shown(path),
        "pictures": recipe["pictures"]["source"],
        "images_seen": max(seen, default=0),
        "images_total": plan["images_total"],
        "sheet": shown(sheets[-1]) if sheets else None,
    }


def _line(record: dict[str, Any]) -> str:
    done = record["images_seen"] / record["images_total"]
    state = "finished" if done >= 1 else f"{done:.0%} done"
    seen = f"{record['images_seen']:,} images seen, {state}"
    return f"{record['run']}  {record['pictures']}  {seen}  {record['sheet'] or ''}"
