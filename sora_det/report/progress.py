"""The section of training curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from .axes import Axis, linear, logarithmic
from .charts import Line, legend, line_chart, style
from .html import Markup, join, tag
from .looks import Look
from .runs import Run
from .training import METRICS, Series, Training
from .words import count, number

MOST = 250  # points of a line; more would not be seen


def progress_section(runs: Sequence[Run], looks: Mapping[str, Look]) -> Markup:
    """Return losses, learning rates, weight decays and validation scores of every run."""
    if len(runs) == 1:
        training = runs[0].training
        if isinstance(training, str):
            return tag("p", training, class_="absent")
        return join(_broken(training), tag("div", _of_run(training, True), class_="panels"))
    known = [(run.name, run.training) for run in runs if isinstance(run.training, Training)]
    parts = [
        tag("p", f"{run.name}: {run.training}", class_="absent")
        for run in runs
        if isinstance(run.training, str)
    ]
    if not known:
        return join(parts)
    shared = [
        _shared("Total loss", "total_loss", known, looks),
        _shared("AP50 on validation images, percent", "validation/AP50", known, looks),
    ]
    parts.append(tag("div", shared, class_="panels"))
    for name, training in known:
        panels = tag("div", _of_run(training, False), class_="panels")
        parts.append(join(tag("h3", looks[name].title), _broken(training), panels))
    return join(parts)


def _of_run(training: Training, whole: bool) -> Markup:
    """Draw what one run wrote down; `whole` includes what runs share a panel for."""
    losses = training.group("loss_")
    panels = []
    if whole:
        panels += [_panel("Total loss", {"total": training.series.get("total_loss")})]
    panels += [_panel("Parts of the loss", dict(losses))]
    rates, decays = training.group("lr/"), training.group("weight_decay/")
    panels += [_panel("Learning rate by group", dict(rates), log=_wide(rates))]
    panels += [_panel("Weight decay by group", dict(decays), log=_wide(decays))]
    if whole:
        score = training.series.get("validation/AP50")
        panels += [_panel("AP50 on validation images, percent", {"validation": score})]
    return join(panels)


def _shared(
    title: str, key: str, known: Sequence[tuple[str, Training]], looks: Mapping[str, Look]
) -> Markup:
    series = {looks[name].title: training.series.get(key) for name, training in known}
    return _panel(title, series, styles={look.title: look.style for look in looks.values()})


def _panel(
    title: str,
    series: Mapping[str, Series | None],
    *,
    log: bool = False,
    styles: Mapping[str, str] | None = None,
) -> Markup:
    """Draw one panel; lines without `styles` that are equal throughout share one and its name."""
    found = {name: s for name, s in series.items() if s is not None and any(map(_finite, s[1]))}
    if not found:
        why = "was not recorded in this training."
        if title.startswith("AP50"):
            why = "was not measured during this training (train.eval_period asks for it)."
        return tag(
            "figure", tag("h3", title), tag("p", f"This {why}", class_="absent"), class_="panel"
        )
    groups = _merged(found) if styles is None else {n: ([n], s) for n, s in found.items()}
    zero = [names for names, s in groups.values() if log and not any(v > 0 for v in s[1])]
    lines, entries = [], []
    drawn = [(names, s) for names, s in groups.values() if names not in zero]
    for place, (names, s) in enumerate(drawn):
        name = ", ".join(names)
        x, y = _thinned(s)
        look = styles[name] if styles else style(place)
        lines.append(Line(name, x, y, look))
        entries.append((name, look))
    values = [v for line in lines for v in line.y]
    y_axis = logarithmic("", values) if log else linear("", values)
    notes = [tag("li", f"{', '.join(names)}: 0 throughout") for names in zero]
    chart = line_chart(lines, _iterations(lines), y_axis, words=_words(title, lines))
    shown = legend(entries) if entries else None
    extra = tag("ul", notes, class_="legend") if notes else None
    heading = tag("h3", title, tag("small", " log scale") if log else None)
    return tag("figure", heading, chart, shown, extra, class_="panel")


def _merged(series: Mapping[str, Series]) -> dict[int, tuple[list[str], Series]]:
    groups: dict[int, tuple[list[str], Series]] = {}
    for name, s in series.items():
        same = next((names for names, other in groups.values() if other == s), None)
        if same is None:
            groups[len(groups)] = ([name], s)
        else:
            same.append(name)
    return groups


def _iterations(lines: Sequence[Line]) -> Axis:
    return linear("iteration", [v for line in lines for v in line.x], count=4)


def _words(title: str, lines: Sequence[Line]) -> str:
    said = [
        f"{line.name} from {number(line.y[0])} to {number(line.y[-1])}" for line in lines if line.y
    ]
    return f"{title} over iterations: {'; '.join(said)}"


def _wide(series: Mapping[str, Series]) -> bool:
    """Say whether positive values span more than a factor of 20, too much for a linear axis."""
    known = [v for _, values in series.values() for v in values if _finite(v) and v > 0]
    return bool(known) and max(known) / min(known) > 20


def _thinned(series: Series) -> Series:
    """Keep every so manieth point and the last; the ends of a training are what is looked at."""
    x, y = series
    step = math.ceil(len(x) / MOST)
    keep = sorted({*range(0, len(x), step), len(x) - 1})
    return [x[i] for i in keep], [y[i] for i in keep]


def _finite(value: float) -> bool:
    return math.isfinite(value)


def _broken(training: Training) -> Markup | None:
    if not training.broken:
        return None
    lines = count(training.broken, "line")
    return tag("p", f"{lines} of {METRICS} could not be read and are left out.", class_="absent")
