"""Drawn driving scenes under five weathers, in the layout of Diverse-Weather."""

from .scene import CLASSES, Scene, Thing, draw_scene
from .weather import WEATHERS, render
from .write import FOLDERS, image_count, toy_image, write_toy

__all__ = [
    "CLASSES",
    "FOLDERS",
    "WEATHERS",
    "Scene",
    "Thing",
    "draw_scene",
    "image_count",
    "render",
    "toy_image",
    "write_toy",
]
