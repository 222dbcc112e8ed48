"""Names from files that lead elsewhere, or that a shell or a config would take for commands."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from sora_det.data import load_benchmark
from sora_det.data.register import records
from sora_det.engine.config import load_config
from sora_det.evaluation.saved import read_domain, write_domain
from tests.fuzz.annotations import BENCHMARK
from tests.fuzz.target import check_shown
from tests.tools.report_runs import domain_data
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


def cases() -> Iterator[Case]:
    yield from _paths()
    yield from _links()
    yield from _commands()


# --- paths -------------------------------------------------------------------------------


def _paths() -> Iterator[Case]:
    for place, name in enumerate(ELSEWHERE):
        if name and "\n" not in name:  # those would be no name, or two
            yield Case("path", f"{place} in a split file", _voc([name]), _read_all)
        yield Case("path", f"{place} in COCO's images", _coco(name), _read_all)
        source = {**BENCHMARK["source"], "folder": name}
        yield Case("path", f"{place} as a folder", benchmark_file(source=source), load_benchmark)
        source = {**BENCHMARK["source"], "train": name}
        yield Case("path", f"{place} as a split", benchmark_file(source=source), load_benchmark)
        yield Case("path", f"{place} as a benchmark", benchmark_file(name=name), load_benchmark)
        source = {**BENCHMARK["source"], "name": name}
        yield Case("path", f"{place} as a domain", benchmark_file(source=source), load_benchmark)
        if re.match(r"\.\.|/|a/\.\.|c:|\\", name.lower()) or "\0" in name:
            yield Case("path", f"{place} in detections", _detections(name), read_domain)


def benchmark_file(**changed: Any) -> Callable[[Path], Path]:
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
        return benchmark_file()(folder)

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
        return benchmark_file(format="coco", source=source, targets=[target])(folder)

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
        yield Case("command", f"{place} as a root", benchmark_file(root=text), _no_data, ())
        yield Case("command", f"{place} as a name", benchmark_file(name=text), load_benchmark)
        yield Case(
            "command", f"{place} as a class", benchmark_file(classes=[text]), load_or_refuse, ()
        )
        yield Case("command", f"{place} in an override", lambda folder: folder, _override(text), ())


def _no_data(path: Path) -> None:
    """The root is a folder of that name, and there is none."""
    try:
        records(load_benchmark(path), "clear", "train")
    except (ValueError, FileNotFoundError):
        return
    raise AssertionError("there were data")


def load_or_refuse(path: Path) -> None:
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
