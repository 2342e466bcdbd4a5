"""Training in several processes: each takes every n-th batch of a step, and gradients are summed before it is made.

A step over ``accumulate`` batches by n processes is the step one process makes over ``n × accumulate`` batches, but
for the draws of dropout. ``torchrun`` starts the processes (``accelerate launch``, too, on GPUs; on CPUs it wants MPI
for more than one). Every one reads the same data in the same order.
"""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


class Processes:
    """This process among its peers; alone unless several were launched (environment variable WORLD_SIZE)."""

    def __init__(self) -> None:
        self.count, self.rank = 1, 0
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            from accelerate import PartialState

            state = PartialState(cpu=not torch.cuda.is_available())
            self.count, self.rank = state.num_processes, state.process_index

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def takes(self, number: int) -> bool:
        """Whether batch ``number`` of a step is for this process."""
        return number % self.count == self.rank

    def sum_gradients(self, model: nn.Module) -> None:
        """Give every process the sum of all gradients of ``model``."""
        if self.count == 1:
            return
        for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            distributed.all_reduce(parameter.grad)

    def mean(self, values: list[float]) -> list[float]:
        """The mean of each value over all processes."""
        if self.count == 1:
            return values
        total = torch.tensor(values, dtype=torch.float64)
        total = total.cuda() if torch.cuda.is_available() else total
        distributed.all_reduce(total)
        return (total / self.count).tolist()

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            distributed.barrier()
