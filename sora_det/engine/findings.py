"""What the analyses found, as plain data that is written as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from ..adapt.movement import Movement
from ..adapt.spectrum import Spectrum
from ..adapt.svd import End
from ..evaluation import RunInfo
from ..evaluation.protocol import Protocol
from .features import SPLIT

VERSION = 1
CONVENTIONS = {
    "matrices": "effective weights of Linear layers; a fused qkv counts as q, k and v",
    "singular values": "exact, in float64",
    "effective rank": "exp of the entropy of singular values over their sum (Roy and Vetterli "
    "2007)",
    "overlap": "share of |W_now - W|^2 in the span of W's weakest or strongest singular vectors",
    "features": "patch tokens after each block, no final norm, no padding; each is one sample",
    "as read": "each token brought to mean 0 and one length, as the next block's norm does",
    "feature change": "|after - before| / |before - mean of before|, Frobenius norms, as read",
    "similarity": "linear CKA in float64 (Kornblith et al. 2019)",
    "images": f"spread evenly over the domain's split {SPLIT!r}, transformed as for testing",
}


@dataclass(frozen=True)
class DomainSample:
    """What was looked at of one domain.

    Attributes:
        domain: its name.
        role: "source" or "target".
        images: number of images.
        available: number of images of the split.
        tokens: number of patch tokens, over all images.
    """

    domain: str
    role: Literal["source", "target"]
    images: int
    available: int
    tokens: int


@dataclass(frozen=True)
class Removal:
    """Feature change per block (None: features do not vary) when components are removed.

    Attributes:
        domain: whose images.
        end: "principal" (the strongest) or "minor" (the weakest).
        count: components removed of every matrix.
        change: one number per block, from 0.
    """

    domain: str
    end: End
    count: int
    change: tuple[float | None, ...]


@dataclass(frozen=True)
class ScoreWithout:
    """AP50 in percent on the whole split of a domain; `count` 0 is the model as it is."""

    domain: str
    end: End
    count: int
    ap50: float | None


@dataclass(frozen=True)
class SpectrumReport:
    """What `analyze_spectrum` found.

    Attributes:
        run: config, checkpoint, seed and versions.
        network: name of the network.
        layers: those of which components were removed; the adapted ones if there are any.
        rank: of the adapted layers, None if there are none or they differ.
        source: the domain that was trained on, "" without a benchmark.
        spectra: of the network as it is, adaptation included.
        movements: of the matrices that training may have changed; empty before training.
        samples: images behind `removals`.
        removals: feature changes.
        scores: AP50 without components.
        protocol: of `scores`, None without any.
    """

    run: RunInfo
    network: str
    layers: tuple[str, ...]
    rank: int | None
    spectra: tuple[Spectrum, ...]
    source: str = ""
    movements: tuple[Movement, ...] = ()
    samples: tuple[DomainSample, ...] = ()
    removals: tuple[Removal, ...] = ()
    scores: tuple[ScoreWithout, ...] = ()
    protocol: Protocol | None = None

    def to_json(self) -> str:
        return _json("sora_det.spectrum", self)


@dataclass(frozen=True)
class Drift:
    """Similarity between pretrained and adapted features of one domain.

    Attributes:
        domain: its name.
        cka: linear CKA per block, 0 to 1, of the features as the next block reads them; None where
            features do not vary.
        raw: likewise, of the features as they are. A few tokens of great length decide it.
    """

    domain: str
    cka: tuple[float | None, ...]
    raw: tuple[float | None, ...]


@dataclass(frozen=True)
class ForgettingReport:
    """What `analyze_forgetting` found; attributes as in `SpectrumReport`.

    Attributes:
        source: the domain that was trained on.
        first_block: the first block with an adapted layer, None if nothing is adapted.
        drifts: one per domain.
    """

    run: RunInfo
    network: str
    source: str
    first_block: int | None
    samples: tuple[DomainSample, ...]
    drifts: tuple[Drift, ...]

    def to_json(self) -> str:
        return _json("sora_det.forgetting", self)


def _json(kind: str, report: Any) -> str:
    document = {"format": kind, "version": VERSION, **asdict(report), "conventions": CONVENTIONS}
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
