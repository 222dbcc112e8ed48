"""Several runs side by side: seeds of one method become a mean and a standard deviation."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from ..untrusted.text import reason, shown
from .formats import percent
from .layout import csv_text, latex_table, markdown, markdown_table, text_table
from .scores import Metric
from .table import DomainTable

RESULTS = "results.json"
LONG = 40  # letters of a method's name in a table
MOST_BYTES = 64_000_000  # of that file; parsed it needs some ten times as many
Format = Literal["text", "json", "csv", "markdown", "latex"]


@dataclass(frozen=True)
class Spread:
    """One number of a method over its runs.

    Attributes:
        mean: over the runs, percent.
        deviation: sample standard deviation (n - 1), None for a single run.
        runs: how many have the number.
    """

    mean: float
    deviation: float | None
    runs: int

    def __str__(self) -> str:
        more = "" if self.deviation is None else f" ± {percent(self.deviation)}"
        return percent(self.mean) + more


@dataclass(frozen=True)
class Method:
    """Runs that differ in their seed alone.

    Attributes:
        name: of the method.
        tables: one per run.
    """

    name: str
    tables: tuple[DomainTable, ...]

    @property
    def seeds(self) -> tuple[int | None, ...]:
        return tuple(table.run.seed for table in self.tables)

    def spread(self, value: Callable[[DomainTable], float | None]) -> Spread | None:
        """Return mean and deviation of a number of each run, None if no run has it."""
        found = [v for v in map(value, self.tables) if v is not None]
        if not found:
            return None
        deviation = statistics.stdev(found) if len(found) > 1 else None
        return Spread(statistics.fmean(found), deviation, len(found))


@dataclass(frozen=True)
class Comparison:
    """Methods on one benchmark under one protocol.

    Attributes:
        methods: in the order given.
        metric: that is compared.
        differences: of the protocols, if comparing was forced; then no number compares.
    """

    methods: tuple[Method, ...]
    metric: Metric
    differences: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, Callable[[DomainTable], float | None]]:
        """What is compared: by heading, from a table to a number in percent."""
        metric, first = self.metric, self.methods[0].tables[0]
        domains = {score.domain: _of_domain(score.domain, metric) for score in first.scores}
        if not first.targets:
            return domains
        return domains | {
            "target mean": lambda table: table.target_mean(metric),
            "worst target": lambda table: _worst(table, metric),
            "drop": lambda table: table.drop(metric),
            "robustness": lambda table: _percent(table.relative_robustness(metric)),
        }

    @property
    def names(self) -> list[str]:
        """The methods' names as a table shows them: long ones without what is in brackets."""
        names = [method.name for method in self.methods]
        return names if max(map(len, names)) <= LONG else shortened(names)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know beside the numbers."""
        notes = [f"PROTOCOLS DIFFER, the scores do not compare: {d}." for d in self.differences]
        pairs = list(zip(self.names, self.methods, strict=True))
        notes += [f"{short} is {method.name}." for short, method in pairs if short != method.name]
        single = [short for short, method in pairs if len(method.tables) == 1]
        if single:
            notes.append(f"One run each, so that no spread is known: {', '.join(single)}.")
        if any(table.run.random_init for method in self.methods for table in method.tables):
            notes.append("Some backbones started from random numbers, not from pretrained weights.")
        return tuple(notes)

    def title(self) -> str:
        first = self.methods[0].tables[0]
        return (
            f"{first.benchmark}: {self.metric} in percent, mean ± standard deviation over seeds; "
            "drop is source minus target mean, robustness target mean over source"
        )

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Headings and one row per method."""
        rows = []
        for name, method in zip(self.names, self.methods, strict=True):
            found = [method.spread(value) for value in self.columns.values()]
            shown = ["-" if spread is None else str(spread) for spread in found]
            rows.append([name, str(len(method.tables)), *shown])
        return ["method", "runs", *self.columns], rows

    def render(self, form: Format) -> str:
        """Return the comparison in one of the formats."""
        if form == "json":
            return self.to_json()
        if form == "csv":
            return self.to_csv()
        head, rows = self.cells()
        if form == "latex":
            notes = [f"% {shown(note)}\n" for note in (self.title(), *self.notes())]
            return "".join(notes) + latex_table(head, rows)
        if form == "markdown":
            notes = [f"- {markdown(note)}" for note in self.notes()]
            title = f"{markdown(self.title())}."
            return "\n".join([title, "", markdown_table(head, rows), "", *notes, ""])
        lines = [shown(self.title()), text_table(head, rows), *map(shown, self.notes())]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """One line per method and column, in full precision."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(["method", "column", "metric", "mean", "deviation", "runs"])
        for method in self.methods:
            for name, value in self.columns.items():
                spread = method.spread(value)
                if spread is not None:
                    deviation = "" if spread.deviation is None else spread.deviation
                    row = [spread.mean, deviation, spread.runs]
                    writer.writerow([csv_text(method.name), csv_text(name), self.metric, *row])
        return out.getvalue()

    def to_json(self) -> str:
        methods = []
        for method in self.methods:
            spreads = {name: method.spread(value) for name, value in self.columns.items()}
            values = {name: spread and asdict(spread) for name, spread in spreads.items()}
            methods.append({"name": method.name, "seeds": method.seeds, "values": values})
        document = {
            "format": "sora_det.comparison",
            "version": 1,
            "benchmark": self.methods[0].tables[0].benchmark,
            "metric": self.metric,
            "notes": self.notes(),
            "methods": methods,
        }
        return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def read_results(run: str | Path) -> DomainTable:
    """Read the table of a run: its folder, or the file results.json itself.

    Raises:
        OSError: there is none.
        ValueError: it is no such file; it is named.
    """
    path = Path(run)
    file = path / RESULTS if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"{path} holds no {RESULTS}: give the output folder of a run that was scored "
            "(scripts/train_net.py does at its end, or with --eval-only)"
        )
    try:
        if file.stat().st_size > MOST_BYTES:
            raise ValueError(f"results have at most {MOST_BYTES:,} bytes")
        return DomainTable.from_json(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: {reason(error)}") from error


def compare(
    tables: Mapping[str, Sequence[DomainTable]], *, metric: Metric = "ap50", force: bool = False
) -> Comparison:
    """Put methods side by side.

    Args:
        tables: by the method's name, one per run.
        metric: to compare.
        force: compare although protocols differ; the comparison says so.

    Raises:
        ValueError: nothing to compare, a seed twice in a method, other benchmarks, or, without
            `force`, protocols that differ.
    """
    methods = tuple(Method(name, tuple(runs)) for name, runs in tables.items() if runs)
    if not methods:
        raise ValueError("at least one run is needed, got none")
    for method in methods:
        twice = sorted({s for s in method.seeds if s is not None and method.seeds.count(s) > 1})
        if twice:
            raise ValueError(
                f"{method.name!r} has several runs of seed {twice[0]}, which are no independent "
                "runs: give each once, or name them as methods of their own (NAME=RUN)"
            )
    first, *others = [table for method in methods for table in method.tables]
    differences = dict.fromkeys(
        difference for table in others for difference in _differences(first, table)
    )
    if differences and not force:
        raise ValueError(
            f"these runs were scored under different protocols: {'; '.join(differences)}. Score "
            "them alike, or force the comparison if you know what it means"
        )
    return Comparison(methods, metric, tuple(differences))


def by_method(tables: Sequence[DomainTable]) -> dict[str, list[DomainTable]]:
    """Group runs that differ in their seed alone: same method, config and pretrained weights."""
    groups: dict[tuple[str, str, str, bool], list[DomainTable]] = {}
    for table in tables:
        run = table.run
        groups.setdefault((run.method, run.config, run.weights, run.random_init), []).append(table)
    methods = [key[0] or key[1] or "unnamed" for key in groups]
    named: dict[str, list[DomainTable]] = {}
    for (method, config, weights, _), runs in groups.items():
        name = method or config or "unnamed"
        if methods.count(name) > 1:  # what tells them apart
            name = ", ".join(part for part in (name, config, weights) if part)
        while name in named:
            name += " again"
        named[name] = runs
    return named


def shortened(names: Sequence[str]) -> list[str]:
    """Leave out what stands in brackets behind names, if they still differ."""
    short = [name.partition("(")[0].strip() or name for name in names]
    return short if len(set(short)) == len(short) else list(names)


def _differences(one: DomainTable, other: DomainTable) -> list[str]:
    found = one.protocol.differences(other.protocol)
    if one.benchmark != other.benchmark:
        found.insert(0, f"benchmark {one.benchmark} and {other.benchmark}")
    return found


def _of_domain(domain: str, metric: Metric) -> Callable[[DomainTable], float | None]:
    def value(table: DomainTable) -> float | None:
        found = [score for score in table.scores if score.domain == domain]
        return found[0].metric(metric) if found else None

    return value


def _worst(table: DomainTable, metric: Metric) -> float | None:
    worst = table.worst_target(metric)
    return worst.metric(metric) if worst else None


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100.0 * fraction
