from pathlib import Path

from detectron2.config import LazyCall as L

from sora_det.data import load_benchmark

from ..data.crop_1024 import dataloader

_folder = Path(__file__).resolve().parents[2] / "benchmarks"
benchmark = L(load_benchmark)(file=str(_folder / "bdd100k_night.yaml"), root=None)
