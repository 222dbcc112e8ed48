"""The tiny config with each of the heads in configs/common/heads."""

from detectron2.config import LazyConfig
from omegaconf import DictConfig

from tests.tools.tiny_run import OVERRIDES, ROOT

HEADS = ("faster_rcnn", "cascade_rcnn", "retinanet")


def use_head(cfg: DictConfig, head: str) -> DictConfig:
    """Swap the head of a config that `tiny` has made; as small as the one it replaces."""
    if head == "faster_rcnn":
        return cfg
    cfg.model = LazyConfig.load(str(ROOT / "configs/common/heads" / f"{head}.py"), "model")
    if head == "retinanet":
        cfg.model.head.conv_dims = [16]
        return cfg
    for stage in range(3):
        cfg.model.roi_heads.box_heads[stage].fc_dims = [32, 32]
        cfg.model.roi_heads.box_predictors[stage].input_shape.channels = 32
    known = [line for line in OVERRIDES if line.startswith("model.") and ".box_head." not in line]
    return LazyConfig.apply_overrides(cfg, known)
