train = dict(
    output_dir="output",
    seed=0,
    device="auto",
    max_iter=40000,
    precision="float32",  # or bfloat16, or float16 with loss scaling
    clip_norm=35.0,
    accumulate=1,  # batches per step
    init_checkpoint="",  # a detector to start from, or to score with --eval-only
    allow_pickle=False,  # read init_checkpoint even if it is a .pkl, which can run any code
    checkpoint_period=4000,
    checkpoints_kept=3,  # the final one apart
    check_images=True,  # look at all of the source before training, and remember what was seen
    max_bad_steps=10,  # in a row; a step whose loss is not finite changes nothing
    eval_period=4000,  # on the source domain alone; 0: never
    log_period=20,
    evaluation=dict(
        split="test",  # or val: after training, score the source's validation images alone
        min_side=0,  # pixels; ground truth with a smaller side is left out, which moves scores
        replicates=1000,  # of the bootstrap behind the intervals; 0: no intervals
        lrp=False,  # localisation-recall-precision error as well
        calibration=False,  # D-ECE as well
    ),
    ddp=dict(broadcast_buffers=False, find_unused_parameters=False),
)
