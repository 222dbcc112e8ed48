from detectron2.config import LazyCall as L

from sora_det.data import load_benchmark

# Drawn by scripts/make_toy.py; the quickstart does it by itself.
benchmark = L(load_benchmark)(file="datasets/toy_weather/toy_weather.yaml", root=None)
