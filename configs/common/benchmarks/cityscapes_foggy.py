from pathlib import Path

from .diverse_weather import benchmark, dataloader

benchmark.file = str(Path(benchmark.file).with_name("cityscapes_foggy.yaml"))
