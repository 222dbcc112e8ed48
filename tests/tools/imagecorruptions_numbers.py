"""Make tests/data/imagecorruptions.npz and .json: what the `imagecorruptions` package returns.

It needs an old environment: imagecorruptions 1.1.2, NumPy < 1.25, scikit-image 0.19 (the last with
`multichannel`; Python 3.10) and setuptools < 81. Hence three steps, with files between them:

    python -m tests.tools.imagecorruptions_numbers draw images.npz            # ours
    python tests/tools/imagecorruptions_numbers.py corrupt images.npz all.npz # the old one
    python -m tests.tools.imagecorruptions_numbers compare all.npz --photographs FOLDER # ours

The first draws the pictures, the second corrupts them, the third compares every pixel, keeps a
sample of them and writes down the differences. FOLDER is the package's `frost`, with its
photographs; they are not kept.
"""

import argparse
import json
import tempfile
from pathlib import Path

import cv2
import numpy as np

DATA = Path(__file__).resolve().parents[1] / "data"
SEED = 7
SEVERITIES = range(1, 6)
PIXELS = 250  # kept of every picture
FROST_SEEDS = 40  # for the statistics of frost


class Legacy:
    """The numbers that follow np.random.seed(seed), under the names of a Generator's methods."""

    def __init__(self, seed):
        self.state = np.random.RandomState(seed)

    def integers(self, *args, **kwargs):
        return self.state.randint(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(self.state, name)


def textures(images):
    """Stand in for photographs of frost: the pictures themselves, turned over."""
    wide, odd = images["wide"], images["odd"]
    turned = wide, odd, wide[::-1], odd[:, ::-1], wide[:, ::-1]
    return tuple(np.ascontiguousarray(texture) for texture in turned)


def positions(shape):
    """Rows and columns of the pixels that are kept, none at the border."""
    rng = np.random.RandomState(SEED)
    return tuple(rng.randint(1, side - 1, size=PIXELS) for side in shape[:2])


def draw(file):
    from sora_det.data.toy import WEATHERS, toy_image

    street, _ = toy_image(next(iter(WEATHERS)), "test", 0, seed=0, size=160)
    np.savez(file, wide=street[40:136], odd=street[30:127, 20:101])


def corrupt_all(images_file, result_file):
    import imagecorruptions
    from imagecorruptions import corruptions

    def one(image, name, severity, seed=SEED):
        np.random.seed(seed)
        fresh, np.random.default_rng = np.random.default_rng, lambda seed=None: Legacy(SEED)
        try:  # scikit-image's impulse noise would not heed the seed otherwise
            return imagecorruptions.corrupt(image, severity, name)
        finally:
            np.random.default_rng = fresh

    found = dict(np.load(images_file))
    images = dict(found)
    photographs = corruptions.resource_filename
    with tempfile.TemporaryDirectory() as folder:
        for i, texture in enumerate(textures(images)):
            cv2.imwrite(f"{folder}/frost{i + 1}.png", texture[..., ::-1])

        def stand_in(_, path):
            return f"{folder}/{Path(path).stem}.png"

        for key, image in images.items():
            for severity in SEVERITIES:
                for name in imagecorruptions.get_corruption_names("all"):
                    corruptions.resource_filename = stand_in
                    found[f"{key}/{name}/{severity}"] = one(image, name, severity)
                corruptions.resource_filename = photographs
                found[f"{key}/photographs/{severity}"] = one(image, "frost", severity)
    for severity in SEVERITIES:
        seeds = range(FROST_SEEDS)
        stack = [one(images["wide"], "frost", severity, seed=seed) for seed in seeds]
        found[f"frost seeds/{severity}"] = np.stack(stack)
    np.savez_compressed(result_file, **found)


def compare(file, folder):
    from sora_det.data.corruptions import NAMES
    from sora_det.data.corruptions.frost import read_textures

    found = dict(np.load(file))
    images = {key: found[key] for key in ("wide", "odd")}
    kept, measured = dict(images), {}
    for name in NAMES:
        measured[name] = _measure(found, images, name, name, textures(images))
        for key, image in images.items():
            cases = [found[f"{key}/{name}/{severity}"] for severity in SEVERITIES]
            kept[f"{key}/{name}"] = np.stack([case[positions(image.shape)] for case in cases])
            kept[f"{key}/{name}/mean"] = np.float32([case.mean(axis=(0, 1)) for case in cases])
            kept[f"{key}/{name}/std"] = np.float32([case.std(axis=(0, 1)) for case in cases])
    photographs = read_textures(folder)[:5]  # the package never chooses its sixth
    document = {
        "package": "imagecorruptions 1.1.2",
        "difference": measured,
        "frost with the package's photographs": _measure(
            found, images, "photographs", "frost", photographs
        ),
        "frost, drawn against photographs": _frost(found, images["wide"]),
    }
    np.savez_compressed(DATA / "imagecorruptions.npz", **kept)
    text = json.dumps(document, indent=2) + "\n"
    (DATA / "imagecorruptions.json").write_text(text, encoding="utf-8")
    return document


def _measure(found, images, key, name, chosen):
    """Differences over all pictures, severities, pixels and channels."""
    from sora_det.data.corruptions import corrupt

    different = []
    for which, image in images.items():
        for severity in SEVERITIES:
            ours = corrupt(image, name, severity, Legacy(SEED), textures=chosen).astype(int)
            different.append(np.abs(ours - found[f"{which}/{key}/{severity}"]))
    inside = [d[1:-1, 1:-1] for d in different]
    return {
        "largest": max(int(d.max()) for d in different),
        "largest inside the border": max(int(d.max()) for d in inside),
        "mean": round(float(np.mean(np.concatenate([d.ravel() for d in different]))), 6),
    }


def _frost(found, image):
    """Mean brightness, deviation and PSNR against the clean picture, over seeds."""
    from sora_det.data.corruptions import corrupt

    rows = {}
    for severity in SEVERITIES:
        drawn = [corrupt(image, "frost", severity, Legacy(s)) for s in range(FROST_SEEDS)]
        for kind, stack in (("drawn", drawn), ("photographs", found[f"frost seeds/{severity}"])):
            values = np.stack(stack).astype(float)
            error = ((values - image) ** 2).mean(axis=(1, 2, 3))
            rows[f"severity {severity}, {kind}"] = {
                "mean": round(float(values.mean()), 1),
                "deviation": round(float(values.std(axis=(1, 2)).mean()), 1),
                "psnr": round(float((10 * np.log10(255**2 / error)).mean()), 2),
            }
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=["draw", "corrupt", "compare"])
    parser.add_argument("files", nargs="+")
    parser.add_argument("--photographs", default="", help="the package's folder `frost`")
    args = parser.parse_args()
    if args.step == "draw":
        draw(*args.files)
    elif args.step == "corrupt":
        corrupt_all(*args.files)
    else:
        print(json.dumps(compare(*args.files, args.photographs), indent=1))


if __name__ == "__main__":
    main()
