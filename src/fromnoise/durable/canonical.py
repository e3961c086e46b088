"""JSON with one spelling for one value, so that a hash of the text is a hash of the value."""

import json
import math
from typing import NoReturn

from fromnoise.errors import FromnoiseError

MAX_DEPTH = 32  # a few bytes of text can nest deeper than any stack


class Damaged(FromnoiseError):
    """A file that is not what was saved: missing, cut, lengthened or changed."""

    exit_code = 9


def to_json(value: object) -> bytes:
    """Canonical JSON, sorted keys, no spaces, ASCII, of lists, dicts, strings, numbers, booleans and None.

    Raises TypeError or ValueError for what JSON cannot say (NaN, keys that are no strings, other types).
    """
    _check(value, MAX_DEPTH)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")


def from_json(data: bytes, name: str) -> object:
    """The value of a JSON text. ``name`` tells the user which file it came from.

    Raises ``Damaged`` for broken text, a key given twice, a number that is not finite, or depth over 32.
    """
    try:
        value: object = json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_no_duplicates,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
        _check(value, MAX_DEPTH)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name} is damaged: it should hold JSON, but {error}.") from error
    return value


def _check(value: object, depth: int) -> None:
    if depth < 0:
        raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise TypeError(f"JSON keys are strings, not {key!r}")
            _check(inner, depth - 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            _check(inner, depth - 1)


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands in it twice")
    return found


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} stands in it where a number should")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text} in it is too large")
    return number
