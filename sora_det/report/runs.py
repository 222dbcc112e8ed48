"""What a report needs of a run, read from its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.compare import Comparison, by_method, compare, read_results
from ..evaluation.saved import FOLDER, read_domains
from ..evaluation.table import DomainTable
from .figures import Plot, read_plots
from .judged import Judged, disagreements, judge
from .training import Training, read_training


@dataclass(frozen=True, eq=False)
class Run:
    """One run.

    Attributes:
        name: short and unlike the others', from its folder.
        table: its scores.
        judged: its detections by domain; empty where none were kept.
        absent: why domains have no detections, "" if all have some.
        warnings: what makes its parts disagree.
        training: numbers of the training, or why there are none.
        plots: of the analyses.
    """

    name: str
    table: DomainTable
    judged: Mapping[str, Judged]
    absent: str
    warnings: tuple[str, ...]
    training: Training | str
    plots: tuple[Plot, ...]


def read_runs(folders: Sequence[str | Path]) -> list[Run]:
    """Read the output folders of runs.

    Raises:
        OSError: no such folder, or one without results.
        ValueError: a folder given twice, damaged results or damaged detections.
    """
    if not folders:
        raise ValueError("a report needs at least one run, got none")
    paths = [Path(folder) for folder in folders]
    known: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder; give the output folder of a run")
        if not path.is_dir():
            raise NotADirectoryError(f"{path} is a file; give the output folder of a run")
        if path.resolve() in known:
            raise ValueError(f"{path} is given twice")
        known[path.resolve()] = path
    tables = [read_results(path) for path in paths]  # all of them before the slow part
    names = _names([path.resolve() for path in paths])
    return [_read(*each) for each in zip(names, paths, tables, strict=True)]


def compared(runs: Sequence[Run], *, force: bool) -> Comparison:
    """Group the runs by method.

    Raises:
        ValueError: protocols differ, without `force`.
    """
    return compare(by_method([run.table for run in runs]), force=force)


def _read(name: str, folder: Path, table: DomainTable) -> Run:
    try:
        domains = read_domains(folder)
    except ValueError as error:
        raise ValueError(f"{folder / FOLDER}: {error}") from error
    order = {score.domain: place for place, score in enumerate(table.scores)}
    known = sorted((d for d in domains if d.domain in order), key=lambda d: order[d.domain])
    for data in known:
        if data.classes != table.protocol.classes:
            raise ValueError(
                f"{folder}: detections of {data.domain!r} are of other classes than results.json: "
                "score the run again"
            )
    judged = judge(known, table.protocol)
    scores = {s.domain: [*(c.ap50 for c in s.classes), s.ap50] for s in table.scores}
    odd = disagreements(judged, scores)
    return Run(
        name=name,
        table=table,
        judged=judged,
        absent=_absent([domain for domain in order if domain not in judged], len(order)),
        warnings=tuple(
            f"The detections kept for {domain} do not give the scores in results.json, so curves "
            "and pictures below belong to another evaluation. Score the run again."
            for domain in odd
        ),
        training=read_training(folder),
        plots=tuple(read_plots(folder)),
    )


def _absent(missing: Sequence[str], total: int) -> str:
    if not missing:
        return ""
    what = "this run" if len(missing) == total else ", ".join(missing)
    return (
        f"No detections are kept for {what}, so there is nothing to draw from. Score the run again "
        "with scripts/train_net.py --eval-only and its own config and overrides; that writes them "
        f"to the folder {FOLDER}."
    )


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the last part of every path, and as many before it as it takes to differ."""
    for depth in range(1, max(len(path.parts) for path in paths) + 1):
        names = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    raise AssertionError("folders that resolve alike were refused before")
