"""Training and test loaders: Detectron2's own, with RGB images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import (
    DatasetFromList,
    DatasetMapper,
    build_detection_test_loader,
    detection_utils,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

from .benchmark import Benchmark
from .order import image_at, positions, random_numbers

IMAGE_FORMAT = "RGB"

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
    not from the number of workers, nor from when the run was interrupted.

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
    records = get_detection_dataset_dicts(name, filter_empty=False)
    mapper = DatasetMapper(True, augmentations=list(augmentations), image_format=IMAGE_FORMAT)
    order = positions(start, total_batch_size, rank=comm.get_rank(), processes=processes)
    _prepare_for_workers(num_workers)
    return DataLoader(
        _Samples(records, mapper, seed),
        batch_size=total_batch_size // processes,
        sampler=_Positions(order),
        num_workers=num_workers,
        collate_fn=list,
        drop_last=True,
    )


class _Positions(Sampler):
    """Positions of samples; a DataLoader asks for them once."""

    def __init__(self, order: Iterator[int]) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return self.order


class _Samples(Dataset):
    """The k-th sample of the run, for any k."""

    def __init__(self, records: list[dict[str, Any]], mapper: DatasetMapper, seed: int) -> None:
        # One buffer that all workers share, in place of objects that each would come to copy.
        self.records = DatasetFromList(records, copy=False)
        self.mapper, self.seed = mapper, seed

    def __getitem__(self, position: int) -> dict[str, Any]:
        index = image_at(position, images=len(self.records), seed=self.seed)
        with random_numbers("sample", self.seed, position):
            return self.mapper(self.records[index])


def _prepare_for_workers(workers: int) -> None:
    """Give up OpenCV's threads in this process before workers are forked.

    A worker would inherit the pool without its threads, and wait for them for ever or crash when
    it changes their number. Workers inherit the single thread as well: a thread per core in each
    of them would be too many.
    """
    if workers:
        cv2.setNumThreads(1)


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
    """
    _prepare_for_workers(num_workers)
    return build_detection_test_loader(
        get_detection_dataset_dicts(dataset_name, filter_empty=False),
        mapper=CanvasMapper(augmentations, change=change),
        num_workers=num_workers,
    )


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
        image = detection_utils.read_image(record["file_name"], format=IMAGE_FORMAT)
        detection_utils.check_image_size(record, image)
        if self.change is not None:
            image = self.change(image, record)
        given = T.AugInput(image)
        transforms = self.augmentations(given)
        height, width = given.image.shape[:2]
        corner = transforms.inverse().apply_coords(np.array([[width, height]], dtype=np.float64))
        record["width"], record["height"] = (_whole(float(side)) for side in corner[0])
        chw = np.ascontiguousarray(given.image.transpose(2, 0, 1))
        return record | {"image": torch.as_tensor(chw)}  # (3, height, width)


def _whole(value: float) -> int | float:
    return round(value) if abs(value - round(value)) < 1e-6 else value
