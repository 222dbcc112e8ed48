"""Names from files that are markup, formulas, commands of LaTeX or codes of a terminal."""

import csv
import html.parser
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from sora_det.evaluation import DomainTable, RunInfo
from sora_det.evaluation.compare import by_method, compare
from sora_det.report.page import write_page
from tests.fuzz.target import check_shown
from tests.tools.report_runs import write_run
from tests.tools.results import PROTOCOL, table

from .case import Case
from .names import benchmark_file, load_or_refuse

MARKUP = (
    "<script>alert(1)</script>",
    "</style><script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "<svg onload=alert(1)>",
    "javascript:alert(1)",
    "[click](javascript:alert(1))",
    "![](http://127.0.0.1:9/x.png)",
    "`code` | cell\n# heading",
    "&lt;script&gt;",
    "\\input{/etc/passwd}",
    "\\immediate\\write18{touch canary}",
    "a\n\\write18{touch canary}",
    "[1cm] $x$ % & # _ { } ~ ^",
    '=HYPERLINK("http://127.0.0.1:9")',
    "+1+1",
    "-2+3",
    "@SUM(A1)",
    " =1+1",
    "\t=1+1",
    "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07",
    "\x9b2J",
    "a\rb",
    "\u202egpj.exe",
    "\u2066hidden",
)


def cases() -> Iterator[Case]:
    for place, text in enumerate(MARKUP):
        yield Case("markup", f"{place} in tables", lambda folder: folder, _in_tables(text), ())
        yield Case("markup", f"{place} in a page", lambda folder: folder, _in_page(text), ())
        named = benchmark_file(classes=[text])
        yield Case("markup", f"{place} as a class", named, load_or_refuse, ())


def _in_tables(text: str) -> Callable[[Path], object]:
    def read(_: Path) -> None:
        made = _named(text)
        # A table of this name can be read from a file, whatever a benchmark may be called.
        made = DomainTable.from_json(made.to_json())
        comparison = compare(by_method([made]))
        for shown in (made.to_text(), comparison.render("text")):
            check_shown(shown)
        for shown in (made.to_csv(), comparison.render("csv")):
            _check_csv(shown)
        for shown in (made.to_markdown(), comparison.render("markdown")):
            _check_markdown(shown)
        for shown in (made.to_latex(), comparison.render("latex")):
            _check_latex(shown)

    return read


def _named(text: str) -> DomainTable:
    """Return a table in which everything that has a name has this one."""
    plain = table(60.0, 50.0, None)
    splits = tuple(replace(split, dataset=text, file=text) for split in PROTOCOL.splits)
    splits = (replace(splits[0], domain=text), *splits[1:])
    scores = tuple(
        replace(score, classes=(replace(score.classes[0], name=text),)) for score in plain.scores
    )
    scores = (replace(scores[0], domain=text), *scores[1:])
    protocol = replace(PROTOCOL, classes=(text,), splits=splits)
    run = RunInfo(method=text, config=text, checkpoint=text, weights=text)
    return DomainTable(text, protocol, scores, run)


def _check_csv(text: str) -> None:
    for row in csv.reader(io.StringIO(text)):
        for cell in row:
            number = re.fullmatch(r"-?\d+(\.\d+)?(e-?\d+)?", cell)
            assert number or not cell.lstrip().startswith(("=", "+", "-", "@")), cell
            check_shown(cell)


def _check_markdown(text: str) -> None:
    check_shown(text)
    plain = re.sub(r"\\.", "", text)
    for start in ("<", "](", "![", "`"):
        assert start not in plain, text
    tables = [line for line in plain.split("\n") if line.startswith("|")]
    assert len({line.count("|") for line in tables if "AP50" in line}) <= 2


def _check_latex(text: str) -> None:
    check_shown(text)
    for line in text.split("\n"):
        if line.startswith("%"):
            continue
        known = (
            r"\\(begin|end|toprule|midrule|bottomrule|textbackslash|textasciitilde|pm|\\|[&%$#_{}])"
        )
        commands = re.findall(r"\\[A-Za-z]+|\\.", line)
        odd = [c for c in commands if not re.match(known, c) and c != r"\textasciicircum"]
        assert not odd, odd
        assert not line.lstrip().startswith(("[", "*")), line


def _in_page(text: str) -> Callable[[Path], object]:
    def read(folder: Path) -> None:
        run = RunInfo(method=text, config=text, checkpoint=text, weights=text, seed=0)
        write_run(folder / "run", classes=(text, "person"), run=run, images=2, replicates=0)
        page = write_page([folder / "run"], folder / "page.html", title=text)
        reader = _Page()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.scripts == 1, "a script more than the page's own"
        assert not reader.problems, reader.problems

    return read


class _Page(html.parser.HTMLParser):
    """Looks for whatever could run or load something."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.problems = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag in ("iframe", "object", "embed", "base", "form"):
            self.problems.append(tag)
        for name, value in attrs:
            outside = name in ("src", "href") and not str(value).startswith(("data:", "#"))
            if name.startswith("on") or outside:
                self.problems.append(f"{tag} {name}={value}")
