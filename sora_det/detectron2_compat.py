"""The one place where Detectron2 0.5 and the current main branch are told apart."""

import torch.distributed as dist
from detectron2.utils import comm


def create_local_process_group(processes: int) -> None:
    """Tell Detectron2 which processes share a machine, `processes` on each.

    `launch` does this by itself; a worker of torchrun has to. Detectron2 0.5 has no function for
    it and reads a module variable.
    """
    if hasattr(comm, "create_local_process_group"):
        comm.create_local_process_group(processes)
        return
    for first in range(0, dist.get_world_size(), processes):
        ranks = list(range(first, first + processes))
        group = dist.new_group(ranks)  # every process must take part in making every group
        if dist.get_rank() in ranks:
            comm._LOCAL_PROCESS_GROUP = group
