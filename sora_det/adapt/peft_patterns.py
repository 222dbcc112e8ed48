"""PEFT's patterns of layers, which are regular expressions from a file: matched in bounded time."""

import re
import warnings
from collections.abc import Mapping, Sequence

from .errors import AdaptationError, brief

MOST_STEPS = 1e9  # of matching all patterns with all names: some ten seconds
Patterns = list[tuple[re.Pattern[str], float]]


def compile_patterns(
    patterns: Mapping[str, float] | None, names: Sequence[str], where: str
) -> Patterns:
    """Compile patterns, unless they could take years on some of the names, as (a+)+ does.

    Without groups that repeat, every repetition multiplies the ways to match by the length of the
    name at most, and every alternative by 2; look-around and references have no use here.

    Args:
        patterns: to values, in the order of the file.
        names: of the layers that they will be matched with.
        where: what to call them in an error.

    Raises:
        AdaptationError: one that is no pattern of names, or all of them take too long.
    """
    found = []
    length = max(map(len, names), default=1)
    steps = 0.0
    for pattern, value in (patterns or {}).items():
        plain = re.sub(r"\\.", "", pattern)  # without escaped characters
        if re.search(r"\)[*+{]|\(\?(?!:)", plain) or re.search(r"\\[1-9]", pattern):
            raise AdaptationError(f"{brief(pattern)} in {where} is more than a pattern of names")
        repeated, either = len(re.findall(r"[*+?{]", plain)), plain.count("|")
        ways = length ** min(1 + repeated, 30) * 2.0 ** min(either, 60)
        steps += len(names) * (30 + ways) + 50_000  # the latter to compile it
        if steps > MOST_STEPS:
            raise AdaptationError(
                f"the patterns in {where} would take too long on {len(names)} layers: name the "
                "layers in full, or use fewer * and |"
            )
        try:
            with warnings.catch_warnings():
                # Of what a later Python may read in another way, such as [[a]: no name needs that.
                warnings.simplefilter("ignore", FutureWarning)
                found.append((re.compile(rf"(.*\.)?({pattern})$"), value))
        except (re.error, RecursionError, OverflowError) as error:
            raise AdaptationError(f"{brief(pattern)} in {where} is no pattern") from error
    return found


def of_pattern(patterns: Patterns, name: str, default: float) -> float:
    """Return the value of the first pattern that the end of `name` matches, as PEFT does."""
    return next((value for pattern, value in patterns if pattern.match(name)), default)
