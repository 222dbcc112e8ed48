from detectron2.config import LazyCall as L

from sora_det.adapt import SoRA
from sora_det.engine.hooks import AnnealWeightDecay

adaptation = L(SoRA)(
    rank=16,
    alpha=None,
    start_block=None,
    targets=None,
    train_bias=True,
    ramp=None,
    start="pretrained",  # or official, as the published code starts
    start_file="${train.output_dir}/start.safetensors",  # decomposed once, also for --resume
    seed="${train.seed}",
)
# roles=None anneals every group, as the reference code does.
hooks = dict(anneal=L(AnnealWeightDecay)(end=1e-5, roles=["adapter"]))
