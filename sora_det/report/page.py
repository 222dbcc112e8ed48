"""One HTML file that tells how well a detector does in every domain.

It needs nothing but itself: images are data URIs, style and script are inside, and a content
security policy in its head forbids the browser to load anything else or to run any other script.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from ..evaluation.compare import shortened
from .album import album_section
from .classes import classes_section
from .headline import headline
from .html import Markup, join, tag
from .looks import run_looks
from .precision import precision_section
from .progress import progress_section
from .provenance import analyses_section, environment_section, protocol_section
from .runs import Run, compared, read_runs
from .scores import domains_section
from .words import count, listed

logger = logging.getLogger(__name__)


def write_page(
    folders: Sequence[str | Path],
    output: str | Path,
    *,
    title: str = "",
    images: str | Path | None = None,
    force: bool = False,
) -> Path:
    """Write the report of one or several runs and return its path.

    The same runs give the same bytes.

    Args:
        folders: output folders of runs.
        output: the file; its folder is made if need be, an older file is replaced.
        title: of the page, "" for one made of method and benchmark.
        images: the benchmark's folder, if it is no longer where the runs found it.
        force: go on although protocols differ; the page says so.

    Raises:
        OSError: a folder or results are missing, or the file cannot be written.
        ValueError: a run twice, damaged files, or protocols that differ.
    """
    if images is not None and not Path(images).is_dir():
        raise NotADirectoryError(f"{images}: no such folder of images")
    path = Path(output)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; name a file, such as {path / 'report.html'}")
    text = page(read_runs(folders), title=title, images=images, force=force)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.part")
    draft.write_text(text, encoding="utf-8", newline="\n")
    os.replace(draft, path)
    logger.info("%s: %.1f MB", path, path.stat().st_size / 1e6)
    return path


def page(
    runs: Sequence[Run],
    *,
    title: str = "",
    images: str | Path | None = None,
    force: bool = False,
) -> str:
    """Return the report as HTML; see `write_page`."""
    comparison = compared(runs, force=force)
    first, looks = runs[0].table, run_looks(runs, comparison)
    methods = shortened([method.name for method in comparison.methods])
    named = title or f"{listed(methods, 3)} on {first.benchmark}"
    root = None if images is None else Path(images)
    sections = (
        ("domains", "Domains", domains_section(runs, looks)),
        ("classes", "Classes", classes_section(runs, comparison)),
        ("curves", "Precision and recall", precision_section(runs, looks)),
        ("pictures", "Pictures", album_section(runs, looks, root=root)),
        ("training", "Training", progress_section(runs, looks)),
        ("analyses", "Analyses", analyses_section(runs)),
        ("protocol", "Protocol", protocol_section(runs)),
        ("environment", "Environment", environment_section(runs)),
    )
    links = [tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in sections]
    date = f", {first.run.date}" if first.run.date else ""
    above = f"Report on {count(len(runs), 'run')} on {first.benchmark}{date}"
    body = join(
        tag("header", tag("p", above, class_="over"), tag("h1", named)),
        tag("nav", tag("ul", links), aria_label="sections"),
        tag(
            "main",
            tag("section", headline(runs, comparison), id="top"),
            [tag("section", tag("h2", name), part, id=key) for key, name, part in sections],
        ),
        tag("footer", tag("p", "Made by scripts/report.py of sora_det from the runs' own files.")),
    )
    return document(named, body)


def document(title: str, body: Markup) -> str:
    folder = resources.files(__package__) / "assets"
    css, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
        f"script-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=Markup(policy)),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Markup(css)),
    )
    whole = tag("html", head, tag("body", body, tag("script", Markup(script))), lang="en")
    return f"<!doctype html>\n{whole}\n"
