"""Training and test loaders of RGB images, and what becomes of images that are bad."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from threading import Thread
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    build_detection_test_loader,
    detection_utils,
)
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from .benchmark import Benchmark
from .images import BadImageError, read_image
from .order import candidates, positions, random_numbers
from .records import Records
from .render import augmented

# Takes an image as read, (height, width, 3) uint8, and its record; returns one of the same size.
Change = Callable[[np.ndarray, Mapping[str, Any]], np.ndarray]


def train_loader(
    *,
    benchmark: Benchmark,
    augmentations: Sequence[T.Augmentation | T.Transform],
    total_batch_size: int,
    num_workers: int = 2,
    seed: int | None = None,
    start: int = 0,
) -> DataLoader:
    """Endless shuffled batches of the source's training split, images without objects included.

    Which image comes when and how it is augmented follows from the seed and from its place alone:
    not from the number of workers, nor from when the run was interrupted. If the benchmark's
    `on_bad_image` is "skip", another image stands in for a bad one, chosen by seed and place as
    well; the sample then has an entry `skipped`, a list of `Skipped`.

    Args:
        benchmark: registered already.
        augmentations: applied in this order.
        total_batch_size: images per step over all processes.
        num_workers: loading processes for each training process.
        seed: of the order of images and of their augmentation; None draws one.
        start: batches to leave out, those of the steps already made.

    Raises:
        ValueError: if the batch size is no multiple of the number of processes, or there are no
            images.
        BadImageError: (while iterating) a bad image under "error", or nothing but bad images.
    """
    processes = comm.get_world_size()
    if total_batch_size < 1 or total_batch_size % processes:
        raise ValueError(
            f"total_batch_size must be a multiple of the {processes} processes, got "
            f"{total_batch_size}"
        )
    if seed is None:
        seed = int(comm.all_gather(int(np.random.randint(2**31)))[0])  # the first process's
    name = benchmark.dataset_name(benchmark.source.name, "train")
    records = registered(name)
    skip = benchmark.on_bad_image == "skip"
    order = positions(start, total_batch_size, rank=comm.get_rank(), processes=processes)
    _prepare_for_workers(num_workers)
    return DataLoader(
        _Samples(records, TrainMapper(augmentations), seed, skip=skip),
        batch_size=total_batch_size // processes,
        sampler=_Positions(order),
        num_workers=num_workers,
        collate_fn=list,
        drop_last=True,
        worker_init_fn=_leave_stopping_to_others,
    )


def registered(name: str) -> Records | DatasetFromList:
    """Return the records of a registered split, in buffers that all workers share.

    Of a list of dictionaries each worker would come to have a copy.
    """
    found = DatasetCatalog.get(name)
    return found if isinstance(found, Records) else DatasetFromList(found, copy=False)


class _Positions(Sampler):
    """Positions of samples; a DataLoader asks for them once."""

    def __init__(self, order: Iterator[int]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return self.order


@dataclass(frozen=True)
class Skipped:
    """A bad image that another one stood in for, and what is wrong with it."""

    image_id: str
    file: str
    reason: str


class _Samples(Dataset):
    """The k-th sample of the run, for any k."""

    def __init__(
        self,
        records: Records | DatasetFromList,
        mapper: TrainMapper,
        seed: int,
        *,
        skip: bool,
    ) -> None:
        self.records = records
        self.mapper, self.seed, self.skip = mapper, seed, skip

    def __getitem__(self, position: int) -> dict[str, Any]:
        skipped: list[Skipped] = []
        for index in candidates(position, images=len(self.records), seed=self.seed):
            record = self.records[index]
            try:
                with random_numbers("sample", self.seed, position):
                    sample = self.mapper(record)
            except BadImageError as error:
                if not self.skip:
                    raise BadImageError(
                        f"{error}; benchmark.on_bad_image=skip trains without such images, and "
                        "scripts/check_benchmark.py finds them all"
                    ) from error
                skipped.append(Skipped(str(record["image_id"]), record["file_name"], str(error)))
                continue
            return sample | {"skipped": skipped} if skipped else sample
        raise BadImageError(
            f"none of the {len(self.records)} training images can be used; the last one: "
            f"{skipped[-1].reason}"
        )


def _prepare_for_workers(workers: int) -> None:
    """Give up OpenCV's threads in this process before workers are forked.

    A worker would inherit the pool without its threads, and wait for them for ever or crash when
    it changes their number. Workers inherit the single thread as well: a thread per core in each
    of them would be too many.
    """
    if workers:
        cv2.setNumThreads(1)


def _leave_stopping_to_others(_: int) -> None:
    """Ignore, in a data worker, what asks a job to stop.

    All of its processes may be told, by a terminal or a scheduler, and training still needs batches
    to end its step. A worker ends when its loader does, or when it finds its process gone.
    """
    for number in (signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS, where SIGTERM ends a worker
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_heed_own_process, args=(os.getppid(),), daemon=True).start()


def _heed_own_process(parent: int) -> None:
    """End with the SIGTERM by which the process that made this one ends its workers.

    It waits for them when it exits: were this one ignored as well, it would wait for ever.
    """
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)


def test_loader(
    *,
    dataset_name: str,
    augmentations: Sequence[T.Augmentation | T.Transform],
    num_workers: int = 2,  # noqa: PT028 - a loader of test images, not a test
    change: Change | None = None,  # noqa: PT028 - the same
) -> DataLoader:
    """One pass over a registered split, one image a batch, shared among processes.

    Args:
        dataset_name: as `Benchmark.dataset_name` gives it.
        augmentations: deterministic, without annotations to look at.
        num_workers: loading processes.
        change: of every image before the augmentations, such as a `Corruption`.

    Raises:
        BadImageError: (while iterating) an image that cannot be read or has not the size that its
            annotation says, whatever `on_bad_image` is: scores on fewer images are not the
            benchmark's.
    """
    _prepare_for_workers(num_workers)
    loader = build_detection_test_loader(
        registered(dataset_name),
        mapper=CanvasMapper(augmentations, change=change),
        num_workers=num_workers,
    )
    loader.worker_init_fn = _leave_stopping_to_others  # Detectron2 has no argument for it
    return loader


class TrainMapper:
    """Read and transform an image with its boxes; crowds are left out.

    This is Detectron2's DatasetMapper for boxes, but for how images are read and for needless work,
    and all its random numbers are drawn in the same order.
    """

    def __init__(self, augmentations: Sequence[T.Augmentation | T.Transform]) -> None:
        self.augmentations = list(augmentations)

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        image, transforms = augmented(_read(record), self.augmentations)
        size = (image.shape[1], image.shape[2])  # height, width
        kept = [box for box in record["annotations"] if not box["iscrowd"]]
        boxes = np.array([box["bbox"] for box in kept], dtype=np.float64).reshape(-1, 4)
        boxes = transforms.apply_box(boxes).clip(min=0)
        instances = Instances(size)
        instances.gt_boxes = Boxes(np.minimum(boxes, (size + size)[::-1]))
        instances.gt_classes = torch.tensor([box["category_id"] for box in kept], dtype=torch.int64)
        return {key: value for key, value in record.items() if key != "annotations"} | {
            "image": image,  # (3, height, width)
            "instances": detection_utils.filter_empty_instances(instances),
        }


class CanvasMapper:
    """Read and transform an image so that detections come back in its own pixels.

    Detectron2's models stretch detections from the tensor they were given to the record's
    `height` and `width`. Its DatasetMapper leaves these at the size of the file, which is wrong
    once an image has been padded; here they are the size of the whole canvas in the file's
    pixels. Without padding the two agree.
    """

    def __init__(
        self,
        augmentations: Sequence[T.Augmentation | T.Transform],
        *,
        change: Change | None = None,
    ) -> None:
        self.augmentations = T.AugmentationList(list(augmentations))
        self.change = change

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        record = {key: value for key, value in record.items() if key != "annotations"}
        image = _read(record)
        if self.change is not None:
            image = self.change(image, record)
        return record | on_canvas(image, self.augmentations)


def on_canvas(image: np.ndarray, augmentations: T.AugmentationList) -> dict[str, Any]:
    """Transform an RGB image (height, width, 3) as `CanvasMapper` does that of a record.

    Returns:
        "image", (3, height, width) as a detector takes it; "width" and "height" of the canvas in
        the pixels of `image`.
    """
    given = T.AugInput(image)
    transforms = augmentations(given)
    height, width = given.image.shape[:2]
    corner = transforms.inverse().apply_coords(np.array([[width, height]], dtype=np.float64))
    chw = np.ascontiguousarray(given.image.transpose(2, 0, 1))
    sides = (_whole(float(side)) for side in corner[0])
    return dict(zip(("width", "height"), sides, strict=True)) | {"image": torch.as_tensor(chw)}


def _read(record: Mapping[str, Any]) -> np.ndarray:
    """Read the image of a record in the orientation of its annotation, if that states a size."""
    size = (record["width"], record["height"]) if "width" in record else None
    try:
        return read_image(record["file_name"], size)
    except BadImageError as error:
        raise BadImageError(f"image {record.get('image_id')!r}: {error}") from error


def _whole(value: float) -> int | float:
    return round(value) if abs(value - round(value)) < 1e-6 else value
