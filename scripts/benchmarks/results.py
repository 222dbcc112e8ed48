"""What a suite returns, and how it is shown."""

import json
from dataclasses import asdict, dataclass, field

from .timing import Ratio, Timing, machine


@dataclass(frozen=True)
class Result:
    """What a suite has measured.

    Attributes:
        suite: its name.
        work: what every alternative did, in a sentence.
        timings: medians are shown.
        ratios: of them.
        facts: other numbers by what they say, with their unit.
        machine: where it was measured.
    """

    suite: str
    work: str
    timings: list[Timing]
    ratios: list[Ratio]
    facts: dict[str, str]
    machine: dict[str, object] = field(default_factory=machine)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def to_text(self) -> str:
        lines = [f"{self.suite}: {self.work}", ""]
        width = max(len(timing.name) for timing in self.timings)
        for timing in self.timings:
            low, high = min(timing.seconds), max(timing.seconds)
            lines.append(
                f"  {timing.name:{width}}  {timing.median:9.3f} s  ({low:.3f} to {high:.3f}, "
                f"{len(timing.seconds)} runs)"
            )
        lines.append("")
        for ratio in self.ratios:
            spread = f"{ratio.least:.3f} to {ratio.most:.3f}"
            lines.append(f"  {ratio.of} / {ratio.to} = {ratio.median:.3f} ({spread})")
        lines += ["", *(f"  {name}: {value}" for name, value in self.facts.items()), ""]
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in self.machine.items()))
        return "\n".join(lines)
