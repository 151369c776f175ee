"""An oracle: a sample's task names its expert, in training and in evaluation. Needs E >= tasks in every block.

Samples carry `task_id(name)` of their task, and the configuration lists the ids in the order of the experts.
"""

from __future__ import annotations

import zlib
from typing import ClassVar, Literal

import torch

from smoe.routers import Router, RouterSettings
from smoe.routers.state import Own, RoutingState


def task_id(name: str) -> int:
    """Return the number by which batches name a task: CRC-32 of its name."""
    return zlib.crc32(name.encode())


class Task(Router):
    """g = one-hot of the sample's task."""

    name: ClassVar[str] = "task"
    summary: ClassVar[str] = "oracle: an expert for each task, told in training and evaluation"
    source: ClassVar[str] = "control"
    rows: ClassVar[Literal["trained", "fixed", "none"]] = "none"
    told_tasks: ClassVar[bool] = True

    def check(self, config: RouterSettings) -> None:
        if len(set(config.router_tasks)) != len(config.router_tasks):
            raise ValueError("router_tasks names a task twice")
        if config.top_k is not None:
            raise ValueError(f"router task uses one expert, that of the task: leave top_k {config.top_k} out")
        tasks = len(config.router_tasks)
        few = {b: n for b, n in config.expert_pattern.items() if 0 < n < tasks}
        few |= {} if config.expert_pattern or config.num_experts >= tasks else {"num_experts": config.num_experts}
        if few:
            block, experts = next(iter(few.items()))
            raise ValueError(
                f"router task needs an expert for each of {tasks} tasks, and {block} has {experts}: ask for {tasks} "
                f"experts in every block"
            )

    def gates(
        self, logits: torch.Tensor, config: RouterSettings, state: RoutingState, own: Own
    ) -> tuple[torch.Tensor, torch.Tensor]:
        told = state.tasks
        if told is None or logits.ndim != 3 or len(told) not in (1, logits.shape[0]):
            given = "no task" if told is None else f"{len(told)} tasks"
            raise ValueError(
                f"router task was told {given} for inputs {tuple(logits.shape[:-1])}: call enter_tasks with an id for "
                f"each sample, or one for all, before the pass"
            )
        known = torch.tensor(config.router_tasks, device=logits.device)
        chosen = told.to(logits.device)[:, None] == known  # (B or 1, tasks)
        wide = torch.promote_types(logits.dtype, torch.float32)
        gates = torch.zeros(len(told), 1, logits.shape[-1], dtype=wide, device=logits.device)
        gates[:, 0, : len(known)] = chosen.to(wide)
        gates = gates.expand(logits.shape)
        return gates, gates
