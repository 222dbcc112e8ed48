"""Build file of sora_det.

`pip install . ./third_party/detectron2` resolves everything in one go; settings of
tools live in pyproject.toml.  The two lists are plain data above the call, so that
scripts/environment.py can read them without setuptools.
"""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent

# The oldest releases that we test are the lower bounds; an upper bound needs a reason.
DEPENDENCIES = [
    # 2.6 is the first release with wheels for Python 3.11, 3.12 and 3.13 alike, and the
    # first whose torch.load refuses pickled code unless asked.
    "torch>=2.6",
    # Box operations.  Each release names the torch release it was built against, so pip
    # ends with a matched pair; 0.21 is the partner of torch 2.6.
    "torchvision>=0.21",
    # Trainer, heads, data pipeline, evaluators.  PyPI has no release: it comes from
    # third_party/detectron2 (0.5) or from upstream's repository (0.6 and later).
    "detectron2>=0.5",
    # Detectron2's own base library (checkpoints, schedules), which we also import by name.
    "fvcore>=0.1.5.post20221221",
    # Plain ViTs and their pretrained weights; 1.0.20 brought DINOv3.
    "timm>=1.0.20",
    # COCO average precision; 2.0.8 is the first built for NumPy 2.
    "pycocotools>=2.0.8",
    # The same cv2 module as opencv-python without a window system, which a server or a
    # container does not have: there, opencv-python fails on import for want of libGL.
    "opencv-python-headless>=4.8",
    # Lazy configs; hydra-core 1.3 requires less than 2.4.
    "omegaconf>=2.3,<2.4",
    # Detectron2 parses key=value overrides of lazy configs with it.
    "hydra-core>=1.3,<1.4",
    # timm's weights, as plain tensors without pickled code.
    "safetensors>=0.4",
    # Reads an image's size from its header; 9.3 is the first with wheels for Python 3.11.
    "Pillow>=9.3",
    # Benchmark files.
    "PyYAML>=6.0",
    # Progress line of training and evaluation.
    "tqdm>=4.66",
    # 1.26 is the first for Python 3.12.
    "numpy>=1.26",
    # Training curves; Detectron2's writer imports it on use.
    "tensorboard>=2.15",
    # Plots of the analyses, as SVG and PNG; 3.8 is the first with type hints.
    "matplotlib>=3.8",
]

EXTRAS = {
    "slurm": [
        # Submits trainings to SLURM and queues them again; 1.5 can overwrite an exported
        # environment.
        "submitit>=1.5",
    ],
    "export": [
        # The format: what torch.onnx.export writes with and onnxruntime reads.
        "onnx>=1.23",
        # torch.onnx.export translates torch.export's programs with it.
        "onnxscript>=0.7",
        # Runs what was written, to compare it with PyTorch.
        "onnxruntime>=1.32",
    ],
    "codino": [
        # Assigns objects to the queries of projects/codino; 1.11 is the first for Python 3.12.
        "scipy>=1.11",
    ],
    "dev": [
        "pytest>=8.0",
        # scripts/test.sh runs one worker a core.
        "pytest-xdist>=3.5",
        # A test that hangs fails, and says where, instead of holding up the whole run.
        "pytest-timeout>=2.2",
        "hypothesis>=6.100",
        # The peer that adapter files are exchanged with and methods are tested against.
        "peft>=0.21",
        # Formatting changes with the minor release.
        "ruff>=0.17,<0.18",
        "mypy>=1.11",
        # ONNX files are written and run; see the extra `export`.
        "onnx>=1.23",
        "onnxscript>=0.7",
        "onnxruntime>=1.32",
        # What projects/codino needs.
        "scipy>=1.11",
        # The launcher for SLURM, whose local executor the tests use.
        "submitit>=1.5",
        # Drives a real browser over the report (scripts/test.sh --browser); 4.11 is the first
        # that finds its way without helpers.
        "selenium>=4.11",
        # Tests run third_party/detectron2's build in this environment; 77 is what it requires.
        "setuptools>=77",
    ],
}


def version() -> str:
    """Read `__version__` without importing the package, whose dependencies may be absent."""
    text = (HERE / "sora_det" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if found is None:
        raise ValueError('sora_det/__init__.py must hold a line __version__ = "x.y.z"')
    return found[1]


def readme() -> str:
    path = HERE / "README.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


if __name__ == "__main__":
    from setuptools import find_packages, setup

    setup(
        name="sora_det",
        version=version(),
        description="Domain-generalised object detection by tuning minor singular components",
        long_description=readme(),
        long_description_content_type="text/markdown",
        license="Apache-2.0",
        license_files=["LICENSE", "NOTICE"],
        python_requires=">=3.11,<3.14",
        packages=find_packages(include=["sora_det", "sora_det.*"]),
        package_data={"sora_det": ["py.typed", "assets/*"], "sora_det.report": ["assets/*"]},
        install_requires=DEPENDENCIES,
        extras_require=EXTRAS,
        classifiers=[
            "Programming Language :: Python :: 3.11",
            "Programming Language :: Python :: 3.12",
            "Programming Language :: Python :: 3.13",
            "Topic :: Scientific/Engineering :: Artificial Intelligence",
            "Typing :: Typed",
        ],
    )
