"""Benchmarks: description, reading, augmentation, loaders."""

from .augment import PadTo, PhotoMetricDistortion
from .benchmark import Benchmark, Domain
from .load import class_count, load_benchmark
from .loader import test_loader, train_loader
from .register import records, register

__all__ = [
    "Benchmark",
    "Domain",
    "PadTo",
    "PhotoMetricDistortion",
    "class_count",
    "load_benchmark",
    "records",
    "register",
    "test_loader",
    "train_loader",
]
