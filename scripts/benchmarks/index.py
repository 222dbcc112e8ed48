"""Reading the annotations of a VOC split, beside Detectron2's reader."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetFromList
from detectron2.data.datasets.pascal_voc import load_voc_instances

from sora_det.data.voc_index import voc_records

from .results import Result
from .synthetic import CLASSES, DIVERSE_WEATHER, HEIGHT, WIDTH, draw, sample
from .timing import in_turns, ratio, step_clock

NIGHT_SUNNY = DIVERSE_WEATHER[1]
MEMORY = Path("/proc/self/smaps_rollup")

SHEET = """<annotation>
\t<folder>VOC2007</folder>
\t<filename>{}.jpg</filename>
\t<size>
\t\t<width>{}</width>
\t\t<height>{}</height>
\t\t<depth>3</depth>
\t</size>
{}</annotation>
"""
OBJECT = """\t<object>
\t\t<name>{}</name>
\t\t<bndbox>
\t\t\t<xmin>{}</xmin>
\t\t\t<ymin>{}</ymin>
\t\t\t<xmax>{}</xmax>
\t\t\t<ymax>{}</ymax>
\t\t</bndbox>
\t</object>
"""


def index(repetitions: int, *, images: int = NIGHT_SUNNY.images) -> Result:
    """Read a split as large as Night-Sunny's; the files are in memory, in the system's cache.

    Args:
        repetitions: of each way.
        images: of the split.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "VOC2007"
        objects = write_split(folder, images)
        time.sleep(2.5)  # what has just changed is not kept
        ids = {name: i for i, name in enumerate(CLASSES)}

        def ours(cache: bool) -> Any:
            return voc_records(folder, "test", category_ids=ids, domain="night", cache=cache)

        def theirs() -> list[dict[str, Any]]:
            return load_voc_instances(str(folder), "test", CLASSES)

        with cache_folder(place):
            timings = in_turns(
                {
                    "load_voc_instances": theirs,
                    "ours, cold": lambda: ours(False),
                    "ours, warm": lambda: ours(True),
                    "reading the files": lambda: read_all(folder / "Annotations"),
                    "listing them": lambda: list_all(folder),
                },
                repetitions,
                clock=step_clock(),  # nothing waits for a disk
            )
            different = sum(
                _boxes(one) != _boxes(other)
                for reading in (ours(False), ours(True))
                for one, other in zip(theirs(), reading, strict=True)
            )
        facts = memory(theirs(), ours(False))
    detectron2, cold, warm, files, listing = timings
    return Result(
        "index",
        f"{images:,} annotation files of {objects / images:.1f} objects",
        timings,
        [
            ratio(detectron2, cold),
            ratio(detectron2, warm),
            ratio(cold, files),
            ratio(warm, listing),
        ],
        {"images whose boxes differ from Detectron2's": str(different)} | facts,
    )


def write_split(folder: Path, images: int) -> int:
    """Write annotations, and images without content; return the number of objects."""
    domain = sample(NIGHT_SUNNY, images)
    _, truth = draw(domain, per_image=1)
    for below in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / below).mkdir(parents=True)
    objects: list[list[str]] = [[] for _ in range(images)]
    corners = np.add(truth.box, (1, 1, 0, 0)).astype(int).tolist()
    for image, label, box in zip(truth.image.tolist(), truth.label.tolist(), corners, strict=True):
        objects[image].append(OBJECT.format(CLASSES[label], *box))
    names = [f"{7919 * i:08x}-{104729 * i % 2**32:08x}" for i in range(images)]
    for name, texts in zip(names, objects, strict=True):
        text = SHEET.format(name, WIDTH, HEIGHT, "".join(texts))
        (folder / "Annotations" / f"{name}.xml").write_text(text)
        (folder / "JPEGImages" / f"{name}.jpg").touch()
    (folder / "ImageSets" / "Main" / "test.txt").write_text("\n".join(names) + "\n")
    return len(truth)


@contextmanager
def cache_folder(place: str) -> Iterator[None]:
    """Keep caches in a folder of their own for a while."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = place
    try:
        yield
    finally:
        del os.environ["XDG_CACHE_HOME"]
        if before is not None:
            os.environ["XDG_CACHE_HOME"] = before


def read_all(folder: Path) -> None:
    """Do what no reader of all files can leave out."""
    for entry in os.scandir(folder):
        with open(entry, "rb", buffering=0) as stream:
            stream.read()


def list_all(folder: Path) -> None:
    """Do what cannot be left out to know that files have not changed."""
    for entry in os.scandir(folder / "Annotations"):
        entry.stat()
    for _ in os.scandir(folder / "JPEGImages"):
        pass


def _boxes(record: dict[str, Any]) -> tuple[Any, ...]:
    boxes = [(box["category_id"], *box["bbox"]) for box in record["annotations"]]
    return record["image_id"], record["file_name"], record["width"], record["height"], boxes


def memory(theirs: list[dict[str, Any]], ours: Any) -> dict[str, str]:
    """Say what records take, once and in every process that is forked and reads them all."""
    packed = DatasetFromList(theirs, copy=False)
    count = len(theirs)
    facts = {
        "memory of a record, ours": f"{ours.nbytes / count:.0f} bytes",
        "memory of a record, pickled as DatasetFromList does":
            f"{(packed._lst.nbytes + packed._addr.nbytes) / count:.0f} bytes",
    }  # fmt: skip
    nothing = in_child(lambda: None)
    ways: dict[str, Sequence[Any]] = {"ours": ours, "DatasetFromList": packed, "a list": theirs}
    for name, records in ways.items():
        grown = in_child(partial(all, map(records.__getitem__, range(count))))
        shown = "unknown"
        if grown is not None and nothing is not None:
            shown = f"{(grown - nothing) / count:.0f} bytes"
        facts[f"memory of a record that a worker comes to own, {name}"] = shown
    return facts


def in_child(task: Callable[[], object]) -> int | None:
    """Run a task in a forked process; return the bytes that are its alone at the end."""
    if not MEMORY.exists():
        return None
    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_report, args=(task, sender))
    child.start()
    found: int = receiver.recv()
    child.join()
    return found


def _report(task: Callable[[], object], sender: Connection) -> None:
    task()
    lines = MEMORY.read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("Private_Dirty:"))
    sender.send(1024 * int(line.split()[1]))
