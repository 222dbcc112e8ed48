"""SECURITY.md states the limits that the code has."""

from pathlib import Path

import pytest

from sora_det.adapt import peft_format, store
from sora_det.data import benchmark, checks, voc_xml, yaml_text
from sora_det.evaluation import compare, prediction_files, saved, strict_json
from sora_det.report import figures
from sora_det.untrusted import pictures

PAGE = (Path(__file__).resolve().parents[2] / "SECURITY.md").read_text(encoding="utf-8")
LIMITS = {
    "names of adapters have 500 characters": store.LONGEST == 500,
    "settings of 1 MB": peft_format.MOST_BYTES == 1e6,
    "finite numbers below 10⁹": saved.LARGEST == 1e9,
    "64 MB for results": compare.MOST_BYTES == 64e6,
    "whole ones within 2⁵³": strict_json.LARGEST == 2**53,
    "1,000 parts": prediction_files.PARTS == 1000,
    "200 kB": yaml_text.MOST_BYTES == 200e3,
    "names of 240 letters, paths of 12 parts": (benchmark._LONGEST, benchmark._DEEPEST)
    == (240, 12),
    "no DTD, so no entity; 16 MB": voc_xml.MOST_BYTES == 16e6,
    "within ±10⁷": checks._FARTHEST == 1e7,
    "2²⁷ pixels": pictures.MOST_PIXELS == 2**27,
    "JPEG, PNG, WebP, BMP, TIFF, PPM, GIF": pictures.FORMATS
    == ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "PPM", "GIF"),
    "plots of 600 kB": figures.LIMIT == 600e3,
}


@pytest.mark.parametrize("text", LIMITS)
def test_a_limit_is_stated_as_it_is(text: str) -> None:
    assert text in PAGE
    assert LIMITS[text]
