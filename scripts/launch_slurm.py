#!/usr/bin/env python
"""Submit scripts/train_net.py to a SLURM cluster; it resumes by itself after a preemption.

    python scripts/launch_slurm.py --nodes 2 --gpus 8 --hours 24 --partition gpu -- \\
        --config-file configs/dinov2_l_sora_frcnn_weather.py train.output_dir=/shared/run

What stands behind `--` goes to train_net.py, with --resume. Needs `pip install sora_det[slurm]`.
"""

import argparse
import logging
from pathlib import Path

import submitit

from sora_det.engine.slurm import Training

logger = logging.getLogger(__name__)
SCRIPT = Path(__file__).resolve().with_name("train_net.py")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--folder", type=Path, default=Path("output/slurm"), help="of the job's logs, shared")
    add("--cluster", choices=["slurm", "local"], default="slurm", help="local: on this machine")
    add("--name", default="sora_det", help="of the job")
    add("--nodes", type=int, default=1, help="machines")
    add("--gpus", type=int, default=1, help="of a machine, with one process each")
    add("--cpu-processes", type=int, default=0, help="of a machine, instead of --gpus")
    add("--cpus", type=int, default=4, help="processors for every process")
    add("--hours", type=float, default=24.0, help="until SLURM ends the job and it is queued again")
    add("--grace", type=int, default=120, help="seconds before that in which it stops by itself")
    add("--requeues", type=int, default=100, help="times that it may run into the time limit")
    add("--partition", help="of the cluster")
    add("--account", help="to be charged")
    add("--wait", action="store_true", help="until the job has ended, and fail if it did")
    add("arguments", nargs="+", metavar="argument", help="of train_net.py, behind --")
    return parser


def submit(args: argparse.Namespace) -> submitit.Job[None]:
    executor = submitit.AutoExecutor(
        args.folder, cluster=args.cluster, slurm_max_num_timeout=args.requeues
    )
    gpus = 0 if args.cpu_processes else args.gpus
    chosen = {"slurm_partition": args.partition, "slurm_account": args.account}
    executor.update_parameters(
        name=args.name,
        nodes=args.nodes,
        tasks_per_node=args.cpu_processes or gpus,
        gpus_per_node=gpus,
        cpus_per_task=args.cpus,
        timeout_min=round(60 * args.hours),
        slurm_signal_delay_s=args.grace,
        slurm_srun_args=["--kill-on-bad-exit=1"],  # no task waits for one that has crashed
        **{key: value for key, value in chosen.items() if value},
    )
    arguments = ["--resume", *args.arguments]
    job: submitit.Job[None] = executor.submit(Training(str(SCRIPT), arguments, gpus=gpus > 0))
    return job


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    args = parser().parse_args()
    job = submit(args)
    logger.info("job %s, logs in %s", job.job_id, args.folder)
    if args.wait:
        job.results()
