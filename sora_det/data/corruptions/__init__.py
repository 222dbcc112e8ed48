"""The corruptions of the robust-detection benchmark, for images of any size.

Fifteen common corruptions and four extra ones at five severities: Hendrycks and Dietterich,
"Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019;
Michaelis et al., "Benchmarking Robustness in Object Detection", arXiv 1907.07484.
"""

from .table import (
    COMMON,
    EXTRA,
    NAMES,
    SEVERITIES,
    VERSION,
    Corruption,
    check_names,
    check_severities,
    corrupt,
    image_rng,
    libraries,
)

__all__ = [
    "COMMON",
    "EXTRA",
    "NAMES",
    "SEVERITIES",
    "VERSION",
    "Corruption",
    "check_names",
    "check_severities",
    "corrupt",
    "image_rng",
    "libraries",
]
