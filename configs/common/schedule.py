from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

# Of 40,000 iterations: the reference's linear warm-up reaches the full rate at iteration 1,499, and
# its two drops come at 25,500 and 33,500. Other lengths keep the proportions.
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(
        values=[1.0, 0.1, 0.01], milestones=[25500, 33500], num_updates=40000
    ),
    warmup_factor=0.01,
    warmup_length=1499 / 40000,
    warmup_method="linear",
)
