"""Names from files that lead elsewhere, command a terminal, or are markup and formulas."""

import csv
import html.parser
import io
import json
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sora_det.data import load_benchmark
from sora_det.data.register import records
from sora_det.engine.config import load_config
from sora_det.evaluation import DomainTable, RunInfo
from sora_det.evaluation.compare import by_method, compare
from sora_det.evaluation.saved import read_domain, write_domain
from sora_det.report.page import write_page
from tests.fuzz.annotations import BENCHMARK
from tests.fuzz.target import check_shown
from tests.tools.report_runs import domain_data, write_run
from tests.tools.results import PROTOCOL, table
from tests.tools.tiny_run import CONFIG

from .case import CANARY, Case

ELSEWHERE = (
    "../../../../etc/passwd",
    "/etc/passwd",
    "a/../../b",
    "..",
    "..\\..\\secret",
    "C:\\secret",
    "c:secret",
    "\\\\server\\share\\a",
    "//server/share/a",
    "a\0b",
    "a\nb",
    "\x1b[2Ja",
    "\u202egpj.exe",
    "a" * 300,
    "a/" * 3000 + "a",
    "\ud800",
    "",
)
COMMANDS = (
    f"$(touch {CANARY})",
    f"`touch {CANARY}`",
    f"; touch {CANARY}",
    f"| touch {CANARY}",
    f"a\ntouch {CANARY}",
    f"&& touch {CANARY}",
    "${oc.env:HOME}",
    "${oc.decode:'[1,2]'}",
    f"${{shell:touch {CANARY}}}",
    f"${{hydra:run}}$(touch {CANARY})",
    f"{{{{ __import__('os').system('touch {CANARY}') }}}}",
    f"__import__('os').system('touch {CANARY}')",
    "%s%s%n",
)
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
    yield from _paths()
    yield from _links()
    yield from _commands()
    for place, text in enumerate(MARKUP):
        yield Case("markup", f"{place} in tables", lambda folder: folder, _in_tables(text), ())
        yield Case("markup", f"{place} in a page", lambda folder: folder, _in_page(text), ())
        yield Case("markup", f"{place} as a class", _benchmark(classes=[text]), _load_or_refuse, ())


# --- paths -------------------------------------------------------------------------------


def _paths() -> Iterator[Case]:
    for place, name in enumerate(ELSEWHERE):
        if name and "\n" not in name:  # those would be no name, or two
            yield Case("path", f"{place} in a split file", _voc([name]), _read_all)
        yield Case("path", f"{place} in COCO's images", _coco(name), _read_all)
        source = {**BENCHMARK["source"], "folder": name}
        yield Case("path", f"{place} as a folder", _benchmark(source=source), load_benchmark)
        source = {**BENCHMARK["source"], "train": name}
        yield Case("path", f"{place} as a split", _benchmark(source=source), load_benchmark)
        yield Case("path", f"{place} as a benchmark", _benchmark(name=name), load_benchmark)
        source = {**BENCHMARK["source"], "name": name}
        yield Case("path", f"{place} as a domain", _benchmark(source=source), load_benchmark)
        if re.match(r"\.\.|/|a/\.\.|c:|\\", name.lower()) or "\0" in name:
            yield Case("path", f"{place} in detections", _detections(name), read_domain)


def _benchmark(**changed: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "b.yaml"
        path.write_text(json.dumps({**BENCHMARK, **changed}))
        return path

    return write


def _voc(names: list[str]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = folder / "data" / "clear"
        for inner in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (root / inner).mkdir(parents=True)
        Image.new("RGB", (32, 24)).save(root / "JPEGImages" / "good.jpg")
        (root / "Annotations" / "good.xml").write_text("<annotation/>")
        text = "\n".join(["good", *names])
        list_file = root / "ImageSets" / "Main" / "train.txt"
        list_file.write_bytes(text.encode("utf-8", "surrogatepass"))
        return _benchmark()(folder)

    return write


def _coco(name: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = folder / "data" / "clear"
        root.mkdir(parents=True)
        Image.new("RGB", (32, 24)).save(root / "good.jpg")
        files = ["good.jpg", name]
        images = [{"id": i, "file_name": file} for i, file in enumerate(files)]
        content = {"images": images, "categories": [], "annotations": []}
        (root / "train.json").write_text(json.dumps(content))
        source = {"name": "clear", "folder": "clear"}
        source |= {"train": {"annotations": "train.json"}, "test": {"annotations": "train.json"}}
        target = {"name": "fog", "folder": "fog", "test": {"annotations": "test.json"}}
        return _benchmark(format="coco", source=source, targets=[target])(folder)

    return write


def _detections(name: str) -> Callable[[Path], Path]:
    """Write a file of detections as it is, but for the name of an image."""

    def write(folder: Path) -> Path:
        return write_domain(replace(domain_data("fog", images=1), files=(name,)), folder)

    return write


def _read_all(path: Path) -> None:
    for record in records(load_benchmark(path), "clear", "train"):
        assert Path(record["file_name"]).name == "good.jpg", record["file_name"]


def _links() -> Iterator[Case]:
    """Links in the place of an image, of its annotation, or of a folder within its name."""

    def link(what: str, name: str) -> Callable[[Path], Path]:
        def write(folder: Path) -> Path:
            path = _voc([name])(folder)
            outside = folder / "outside"
            (outside / "sub").mkdir(parents=True)
            Image.new("RGB", (32, 24)).save(outside / "sub" / "x.jpg")
            (outside / "sub" / "x.xml").write_text("<annotation/>")
            root = folder / "data" / "clear"
            for inner, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
                own = root / inner
                if what == "folder":
                    (own / "sub").symlink_to(outside / "sub")
                elif what == inner:
                    (own / f"{name}{suffix}").symlink_to(outside / "sub" / f"x{suffix}")
                else:
                    (own / f"{name}{suffix}").write_bytes(
                        (outside / "sub" / f"x{suffix}").read_bytes()
                    )
            return path

        return write

    yield Case("path", "an image that is a link", link("JPEGImages", "x"), _read_all)
    yield Case("path", "an annotation that is a link", link("Annotations", "x"), _read_all)
    yield Case("path", "a folder that is a link", link("folder", "sub/x"), _read_all)


# --- commands ----------------------------------------------------------------------------


def _commands() -> Iterator[Case]:
    for place, text in enumerate(COMMANDS):
        yield Case("command", f"{place} as a root", _benchmark(root=text), _no_data, ())
        yield Case("command", f"{place} as a name", _benchmark(name=text), load_benchmark)
        yield Case(
            "command", f"{place} as a class", _benchmark(classes=[text]), _load_or_refuse, ()
        )
        yield Case("command", f"{place} in an override", lambda folder: folder, _override(text), ())


def _no_data(path: Path) -> None:
    """The root is a folder of that name, and there is none."""
    try:
        records(load_benchmark(path), "clear", "train")
    except (ValueError, FileNotFoundError):
        return
    raise AssertionError("there were data")


def _load_or_refuse(path: Path) -> None:
    try:
        check_shown(" ".join(load_benchmark(path).classes))
    except ValueError as error:
        check_shown(str(error))


def _override(text: str) -> Callable[[Path], object]:
    """Whatever stands in quotes is the text and nothing else, but for references of OmegaConf."""

    def read(_: Path) -> None:
        quoted = "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
        try:
            cfg = load_config(CONFIG, [f"train.output_dir={quoted}"])
        except ValueError as error:
            check_shown(str(error))
            return
        plain = cfg._get_node("train")._get_node("output_dir")._value()
        assert plain == text, plain

    return read


# --- markup ------------------------------------------------------------------------------


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


logging.getLogger("sora_det").addHandler(logging.NullHandler())
