"""Backbones for Detectron2: plain ViTs of timm with a pyramid, and the ResNet baseline."""

from .pyramid import SimplePyramid, ViTPyramid, adapted
from .resnet import resnet_fpn
from .timm_vit import vit
from .weights import fuse_qkv, load_vit, read_state, split_qkv

__all__ = [
    "SimplePyramid",
    "ViTPyramid",
    "adapted",
    "fuse_qkv",
    "load_vit",
    "read_state",
    "resnet_fpn",
    "split_qkv",
    "vit",
]
