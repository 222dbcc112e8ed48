"""What separates the Python files of Detectron2 0.5 from today's libraries.

Every `Edit` names the files it concerns, the reason, and regular expressions with their
replacements; `backend.modernise` insists that each expression still finds something.
`NEW_FILES` are put beside the edited ones.
"""

from typing import NamedTuple


class Edit(NamedTuple):
    """Substitutions for the files that match a glob."""

    files: str  # glob from the root of the sdist
    reason: str  # why the code as released does not do
    swaps: tuple[tuple[str, str], ...]  # (pattern, replacement) in re.MULTILINE


EDITS = (
    Edit(
        "detectron2/**/*.py",
        "NumPy 1.24 dropped its aliases of Python's own types",
        ((r"\bnp\.(bool|int|float|str)\b", r"\1"),),
    ),
    Edit(
        "detectron2/layers/mask_ops.py",
        "NumPy 2 reads copy=False as a ban on copying and raises",
        ((r"np\.array\(mask, copy=False\)", "np.asarray(mask)"),),
    ),
    Edit(
        "detectron2/data/transforms/transform.py",
        "Pillow 10 knows LINEAR as BILINEAR only",
        ((r"Image\.LINEAR\b", "Image.BILINEAR"),),
    ),
    Edit(
        "detectron2/data/common.py",
        "random.sample() takes no set since Python 3.11",
        ((r"sample\(self\._fallback_candidates,", "sample(sorted(self._fallback_candidates),"),),
    ),
    Edit(
        "detectron2/model_zoo/model_zoo.py",
        "setuptools 82 comes without pkg_resources",
        (
            (r"^import pkg_resources\n", ""),
            (
                r'pkg_resources\.resource_filename\(\s*"detectron2\.model_zoo", '
                r'os\.path\.join\("configs", config_path\)\s*\)',
                'os.path.join(os.path.dirname(__file__), "configs", config_path)',
            ),
        ),
    ),
    Edit(
        "detectron2/config/lazy.py",
        "LazyConfig.to_py() must not need black, which only makes its output prettier",
        (
            (r"^        import black\n\n", ""),
            (
                r"^        try:\n            return black\.format_str(.*)\n"
                r"        except black\.InvalidInput:\n",
                r"        try:\n            import black\n\n"
                r"            return black.format_str\1\n"
                r"        except Exception:\n",
            ),
        ),
    ),
    Edit(
        "detectron2/engine/hooks.py",
        "PyTorch 2 derives schedulers from LRScheduler, so the old test for the private base "
        "class misses them and a checkpoint would lack their state",
        ((r"lr_scheduler\._LRScheduler\b", "lr_scheduler.LRScheduler"),),
    ),
    Edit(
        "detectron2/solver/*.py",
        "the same private base class",
        ((r"lr_scheduler\._LRScheduler\b", "lr_scheduler.LRScheduler"),),
    ),
    Edit(
        "detectron2/modeling/anchor_generator.py",
        "torch.meshgrid() warns unless told its indexing",
        ((r"meshgrid\(shifts_y, shifts_x\)", 'meshgrid(shifts_y, shifts_x, indexing="ij")'),),
    ),
    Edit(
        "detectron2/data/detection_utils.py",
        "a tensor from a list of arrays is slow to make, and warns; no box must stay (0, 4)",
        ((r"gt_boxes = Boxes\(boxes\)", "gt_boxes = Boxes(np.array(boxes).reshape(-1, 4))"),),
    ),
    Edit(
        "detectron2/utils/comm.py",
        "PyTorch 2 warns about typed storages",
        (
            (r"^    storage = torch\.ByteStorage\.from_buffer\(buffer\)\n", ""),
            (
                r"torch\.ByteTensor\(storage\)",
                "torch.frombuffer(bytearray(buffer), dtype=torch.uint8)",
            ),
        ),
    ),
    Edit(
        "detectron2/layers/wrappers.py",
        "cross_entropy() forgot the caller's reduction; 0.6 corrected it",
        (
            (
                r"F\.cross_entropy\(input, target, \*\*kwargs\)",
                "F.cross_entropy(input, target, reduction=reduction, **kwargs)",
            ),
        ),
    ),
    Edit(
        "detectron2/engine/launch.py",
        "launch() must start processes on a CPU too, as later versions do",
        (
            (r"^    assert torch\.cuda\.is_available\(\), .*\n", ""),
            (r'backend="NCCL"', 'backend="NCCL" if torch.cuda.is_available() else "GLOO"'),
            (
                r"^    (assert num_gpus_per_machine <= torch\.cuda\.device_count\(\))\n"
                r"    (torch\.cuda\.set_device\(local_rank\))\n",
                r"    if torch.cuda.is_available():\n        \1\n        \2\n",
            ),
        ),
    ),
    Edit(
        "detectron2/evaluation/coco_evaluation.py",
        "COCO evaluation in C++ is left out; faster-coco-eval takes its place if installed",
        (
            (
                r"^from detectron2\.evaluation\.fast_eval_api import COCOeval_opt\n",
                "try:\n"
                "    from faster_coco_eval import COCOeval_faster as COCOeval_opt\n"
                "except ImportError:\n"
                "    COCOeval_opt = COCOeval\n",
            ),
        ),
    ),
    Edit(
        "detectron2/export/__init__.py",
        "the exporter needs Caffe2, which is gone",
        (
            (
                r"^from \.api import \*\n",
                "try:\n    from .api import *\nexcept ImportError:\n    pass\n",
            ),
        ),
    ),
)

NEW_FILES = {
    "detectron2/_C.py": '''
        """In place of the C++ module: importable, and clear about what it cannot do."""


        def get_compiler_version():
            return "none (pure-Python build)"


        def get_cuda_version():
            return "none (pure-Python build)"


        def has_cuda():
            return False


        def __getattr__(name):
            if name.startswith("__"):
                raise AttributeError(name)
            raise RuntimeError(
                f"detectron2._C.{name} is C++ and this build of detectron2 has none: rotated "
                "boxes, deformable convolution on a GPU and the fast COCO evaluation need "
                "a detectron2 built from upstream's repository."
            )
        ''',
}
