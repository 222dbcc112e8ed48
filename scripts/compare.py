#!/usr/bin/env python
"""Carry a study out: methods with seeds, each at a learning rate searched on the source alone.

    python scripts/compare.py projects/evidence/studies/toy_methods.yaml [--jobs 2] [--dry-run]
        [--into docs/evidence.md] [--explain] [--figures docs/figures] [key=value ...]

What has been done is skipped, so that it may be stopped at any moment, and gone on with on any
machine. Overrides are those of the machine, such as backbone.net.weights= and benchmark.root=.
With --explain, features and weights of every final backbone are compared with the pretrained ones;
what was found is kept beside the results, in explained.json, and shown from then on. With
--cluster slurm every run is a job (needs `pip install sora_det[slurm]`).
"""

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path

# fvcore and Detectron2 script small functions when they are imported; torch advises against it.
warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")

from sora_det.engine.study import (  # noqa: E402
    Configs,
    Kept,
    Local,
    Starter,
    Study,
    carry_out,
    explain,
    forecast,
    insert,
    read_study,
    summarise,
)
from sora_det.evaluation.explained import (  # noqa: E402
    Explained,
    explained_text,
    from_json,
    to_json,
)
from sora_det.evaluation.robustness import write_whole  # noqa: E402
from sora_det.report import save  # noqa: E402
from sora_det.report.study import write_study_page  # noqa: E402
from sora_det.report.study_figures import study_figures  # noqa: E402

logger = logging.getLogger("sora_det.compare")
ROOT = Path(__file__).resolve().parents[1]
EXPLAINED = "explained.json"
SCRIPT = Path(__file__).resolve().with_name("train_net.py")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("study", type=Path, help="its YAML file")
    add("--results", type=Path, help="folder; default: ../results/NAME, seen from the file")
    add("--work", type=Path, help="folder for the runs; default: output/studies/NAME")
    add("--jobs", type=int, help="runs at a time; default: as many as there are processors")
    add("--threads", type=int, default=1, help="of every run")
    add("--redo", action="store_true", help="replace results of other settings, data or weights")
    add("--dry-run", action="store_true", help="say what is left and how long it will take")
    add("--into", type=Path, help="a Markdown file, whose block of this study is replaced")
    add("--explain", action="store_true", help="find how far the backbones have moved")
    add("--figures", type=Path, help="folder, in which the study is drawn")
    add("--cluster", choices=["slurm", "local"], help="submit jobs; local: to this machine")
    add("--gpus", type=int, default=1, help="of a job, 0 for none")
    add("--hours", type=float, default=4.0, help="until a job is ended and queued again")
    add("--partition", help="of the cluster")
    add("--account", help="to be charged")
    add("overrides", nargs="*", metavar="key=value", help="data, weights and devices")
    return parser


def main(args: argparse.Namespace) -> None:
    study = read_study(args.study)
    work = args.work or ROOT / "output" / "studies" / study.name
    results = args.results or args.study.resolve().parent.parent / "results" / study.name
    configs = Configs(study, root=ROOT, work=work.resolve(), machine=args.overrides)
    kept = Kept(study, configs, results, redo=args.redo, threads=args.threads)
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    at_once = args.jobs or max(1, processors // args.threads)
    if args.dry_run:
        kept.borrow()
        left = kept.left()
        for run in left:
            logger.info("left: %s", run)
        logger.info(forecast(kept, left, at_once=at_once))
        return
    try:
        carry_out(kept, start=starter(args, work.resolve()), at_once=at_once)
        if args.explain:
            explain_all(kept, results)
    finally:
        show(study, kept, results, args)


def starter(args: argparse.Namespace, work: Path) -> Starter:
    if not args.cluster:
        return Local(SCRIPT, threads=args.threads)
    from sora_det.engine.slurm import Cluster  # needs submitit

    return Cluster(
        SCRIPT,
        folder=work / "jobs",
        cluster=args.cluster,
        name=args.study.stem,
        gpus=args.gpus,
        cpus=args.threads,
        hours=args.hours,
        partition=args.partition,
        account=args.account,
    )


def explain_all(kept: Kept, results: Path) -> None:
    """Explain every final run and keep each at once."""
    found = list(explain(kept, known(results), make=False))
    write_whole(results / EXPLAINED, to_json(found))
    for one in explain(kept, found):
        if one not in found:
            found.append(one)
            write_whole(results / EXPLAINED, to_json(found))


def known(results: Path) -> list[Explained]:
    """Return what has been explained so far, of this study and of those beside it."""
    found: list[Explained] = []
    for file in sorted(results.parent.glob(f"*/{EXPLAINED}")):
        try:
            found += from_json(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file} is none of ours, delete it: {error}") from error
    return found


def show(study: Study, kept: Kept, results: Path, args: argparse.Namespace) -> None:
    """Write table, page and figures, if there is something to show."""
    if not any(run.phase == "final" for run in kept.found):
        return
    summary = summarise(study, kept.found)
    text = summary.to_markdown()
    explained = list(explain(kept, known(results), make=False))
    if explained:
        text += "\n" + explained_text(explained, summary.target_means())
    if args.figures is not None:
        for name, figure in study_figures(summary, explained).items():
            save(figure, args.figures, f"{study.name}_{name}")
    (results / "table.md").write_text(text, encoding="utf-8")
    page = write_study_page(summary, results / "report.html")
    if args.into is not None:
        insert(args.into, study.name, text)
    logger.info("%s", text)
    logger.info("table and page: %s, %s", results / "table.md", page)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stdout)
    logging.getLogger("sora_det.compare").setLevel(logging.INFO)
    logging.getLogger("sora_det.engine.study").setLevel(logging.INFO)
    try:
        main(parser().parse_intermixed_args())
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
