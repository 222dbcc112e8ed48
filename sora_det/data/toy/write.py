"""Write the toy benchmark to disk in the folder layout of Diverse-Weather."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from xml.sax.saxutils import escape

import cv2
import numpy as np
from numpy.typing import NDArray

from .scene import CLASSES, Scene, draw_scene
from .weather import WEATHERS, render

VERSION = 1  # raise it whenever the same settings give other files
SPLITS = ("train", "test", "pretrain")  # a scene's seed depends on the position in this tuple
FOLDERS = {
    "daytime-clear": "daytime_clear",
    "Night-Sunny": "Night-Sunny",
    "dusk-rainy": "dusk_rainy",
    "night-rainy": "night_rainy",
    "daytime-foggy": "daytime_foggy",
}
SOURCE = "daytime-clear"
_MANIFEST = "manifest.json"
_YAML = "toy_weather.yaml"
_SUNNY = 0.65  # share of the clear days with sunlight, the others are overcast
_CHUNK = 20  # images per task of a worker


@dataclass(frozen=True)
class Manifest:
    """All that decides what is in a written toy benchmark."""

    version: int
    seed: int
    train: int
    test: int
    size: int


@dataclass(frozen=True)
class _Job:
    """One image to draw: its weather, its split as drawn, and its place in that split."""

    weather: str
    split: str
    index: int

    @property
    def stem(self) -> str:
        return f"{FOLDERS[self.weather].lower()}_{self.split}_{self.index:05d}"


def toy_image(
    weather: str, split: str, index: int, *, seed: int = 0, size: int = 256
) -> tuple[NDArray[np.uint8], Scene]:
    """Return one picture, (size, size, 3) uint8 RGB, and the scene behind it.

    The arguments alone decide the result. No two weathers, splits or indices share a scene. The
    split "pretrain" is for pictures beside the benchmark; `write_toy` never uses it.

    Args:
        weather: one of `WEATHERS`.
        split: "train", "test" or "pretrain".
        index: number of the picture in its split, from 0.
        seed: the benchmark's seed, from 0.
        size: width and height in pixels, at least 64.

    Raises:
        ValueError: if an argument is outside its range.
    """
    if weather not in WEATHERS:
        raise ValueError(f"weather must be one of {', '.join(WEATHERS)}, got {weather!r}")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    if index < 0 or seed < 0:
        raise ValueError(f"index and seed must be 0 or more, got {index} and {seed}")
    entropy = [seed, list(WEATHERS).index(weather), SPLITS.index(split), index]
    rng = np.random.default_rng(np.random.SeedSequence(entropy))
    sunny = weather == SOURCE and rng.random() < _SUNNY
    scene = draw_scene(rng, size=size, sunny=sunny)
    return render(scene, weather, rng), scene


def write_toy(
    root: str | Path,
    *,
    seed: int = 0,
    train: int = 400,
    test: int = 100,
    size: int = 256,
    workers: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write the toy benchmark into the folder `root` and return its benchmark file.

    The source has `train` and `test` images, each of the four targets `test`. The folder appears
    at once when all is written. If it already holds the same benchmark, nothing is done.

    Args:
        root: folder to make.
        seed: which scenes; any whole number from 0.
        train: images of daytime-clear to train on.
        test: images of every domain to evaluate on.
        size: width and height in pixels, at least 64.
        workers: processes that draw; None for one per processor. Files do not depend on it.
        progress: called with the number of images just written, again and again.

    Raises:
        ValueError: if a number is out of range, or the folder holds a benchmark drawn with other
            settings.
        FileExistsError: if the folder holds something else.
    """
    if train < 1 or test < 1 or size < 64 or seed < 0 or (workers is not None and workers < 1):
        raise ValueError(
            "train, test and workers must be at least 1, size at least 64 and seed at least 0, got "
            f"train={train}, test={test}, workers={workers}, size={size}, seed={seed}"
        )
    root = Path(root)
    wanted = Manifest(VERSION, seed, train, test, size)
    if _present(root, wanted):
        return root / _YAML
    root.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".part", dir=root.parent))
    try:
        _write_all(part, wanted, workers or _processors(), progress)
        part.chmod(0o755)  # mkdtemp makes folders for the owner alone
        try:
            part.rename(root)
        except OSError:  # another process was faster, or something came to lie there
            if not _present(root, wanted):
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return root / _YAML


def image_count(*, train: int, test: int) -> int:
    """Return the number of images that `write_toy` draws."""
    return train + test * len(FOLDERS)


def _present(root: Path, wanted: Manifest) -> bool:
    """Whether `root` holds the wanted benchmark; other contents are an error."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    file = root / _MANIFEST
    if not file.is_file():
        raise FileExistsError(
            f"{root} exists and holds no toy benchmark: give an empty or a new folder"
        )
    found = json.loads(file.read_text(encoding="utf-8"))
    if found == asdict(wanted):
        return True
    differing = [f"{key} {found.get(key)} instead of {value}"
                 for key, value in asdict(wanted).items() if found.get(key) != value]  # fmt: skip
    raise ValueError(
        f"{root} holds a toy benchmark drawn with other settings ({', '.join(differing)}): "
        "give another folder, or delete this one"
    )


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return min(16, len(os.sched_getaffinity(0)))
    return min(16, os.cpu_count() or 1)


def _write_all(
    root: Path, manifest: Manifest, workers: int, progress: Callable[[int], object] | None
) -> None:
    """Draw every image, then write lists, the benchmark file and the manifest."""
    jobs = []
    for weather, folder in FOLDERS.items():
        base = root / folder / "VOC2007"
        for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (base / name).mkdir(parents=True)
        train = manifest.train if weather == SOURCE else 0
        splits = {"train": train, "test": manifest.test}
        own = [_Job(weather, split, i) for split, count in splits.items() for i in range(count)]
        jobs += own
        for split in splits:
            stems = [job.stem for job in own if job.split == split]
            if stems:  # as in Diverse-Weather, a target is evaluated on its train.txt
                name = split if weather == SOURCE else "train"
                list_file = base / "ImageSets" / "Main" / f"{name}.txt"
                list_file.write_text("\n".join(stems) + "\n", encoding="utf-8")
    chunks = [jobs[i : i + _CHUNK] for i in range(0, len(jobs), _CHUNK)]
    for count in _run(partial(_write_chunk, root, manifest), chunks, workers):
        if progress is not None:
            progress(count)
    (root / _YAML).write_text(_yaml(), encoding="utf-8")
    text = json.dumps(asdict(manifest), indent=2) + "\n"
    (root / _MANIFEST).write_text(text, encoding="utf-8")


def _run(
    function: Callable[[list[_Job]], int], chunks: list[list[_Job]], workers: int
) -> Iterable[int]:
    """Yield the results of all chunks, drawn by `workers` processes."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # in the parent: a forked child must not inherit OpenCV's thread pool
    try:
        if workers == 1 or len(chunks) == 1:
            yield from map(function, chunks)
        else:
            with ProcessPoolExecutor(min(workers, len(chunks))) as pool:
                yield from pool.map(function, chunks)
    finally:
        cv2.setNumThreads(threads)


def _write_chunk(root: Path, manifest: Manifest, jobs: list[_Job]) -> int:
    """Draw and write some images with their annotations; return how many."""
    for job in jobs:
        image, scene = toy_image(
            job.weather, job.split, job.index, seed=manifest.seed, size=manifest.size
        )
        base = root / FOLDERS[job.weather] / "VOC2007"
        file = base / "JPEGImages" / f"{job.stem}.jpg"
        bgr = np.ascontiguousarray(image[..., ::-1])
        if not cv2.imwrite(str(file), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95]):
            raise OSError(f"cannot write {file}")
        text = _xml(job.stem, scene)
        (base / "Annotations" / f"{job.stem}.xml").write_text(text, encoding="utf-8")
    return len(jobs)


def _xml(stem: str, scene: Scene) -> str:
    """Return a VOC annotation: whole numbers, 1-based, both corners inside the box."""
    size = scene.camera.size
    lines = ["<annotation>", "  <folder>VOC2007</folder>",
             f"  <filename>{escape(stem)}.jpg</filename>",
             f"  <size><width>{size}</width><height>{size}</height><depth>3</depth></size>",
             "  <segmented>0</segmented>"]  # fmt: skip
    for thing in scene.things:
        x0, y0, x1, y1 = thing.box
        cut = int(x0 == 0 or y0 == 0 or x1 == size or y1 == size)
        lines += [
            "  <object>",
            f"    <name>{thing.label}</name>",
            "    <pose>Unspecified</pose>",
            f"    <truncated>{cut}</truncated>",
            f"    <occluded>{int(thing.visible < 0.9)}</occluded>",
            "    <difficult>0</difficult>",
            f"    <bndbox><xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin>"
            f"<xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def _yaml() -> str:
    """Return the benchmark file; its root is the folder it lies in."""
    lines = ["# Drawn driving scenes: train in clear daylight, evaluate in every weather.",
             "name: toy_weather", "root: .", "format: voc", f"classes: [{', '.join(CLASSES)}]",
             f"source: {{name: {SOURCE}, folder: {FOLDERS[SOURCE]}/VOC2007, train: train, "
             "test: test}", "targets:"]  # fmt: skip
    lines += [f"  - {{name: {weather}, folder: {folder}/VOC2007, test: train}}"
              for weather, folder in FOLDERS.items() if weather != SOURCE]  # fmt: skip
    return "\n".join([*lines, ""])
