"""Mixtures of LoRA experts: who places them says how many go to each block; the layer and its training are shared."""

from __future__ import annotations

import contextlib
import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from peft import get_peft_model
from pydantic.dataclasses import dataclass

from baselines.allocator import Allocator, Facts
from baselines.budgets import Unit
from baselines.fields import CHECKED, Fraction, NotNegative, Positive, ProperFraction
from baselines.method import Attached, Method
from baselines.sizes import Shapes, nearest_rank
from smoe import (
    DEFAULT_TARGETS,
    Budget,
    BudgetError,
    Probe,
    SMoEConfig,
    block_params,
    experts_per_block,
    parameter_counts,
    record_routing,
    routers,
    task_id,
)
from smoe.gradients import model_inputs
from smoe.routers import shared_params

COMPONENTS = 8  # looked at where no bound is set, as many as eight tasks can vote for
PUBLISHED_SCALE = 2  # alpha / r of LoRA-SMoE, MoLA and HydraLoRA


def tell_task(model: Attached, task: str) -> None:
    """Tell routers that ask for it the task of the batches to come, which are one sample each or one task's alone."""
    model.base_model.enter_tasks(torch.tensor([task_id(task)]))


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class ExpertMethod(Method):
    """y = W x + (alpha/r) sum_e g_e(x) B_e A_e x with a soft or top-k router; see smoe/layer.py."""

    later: ClassVar[frozenset[str]] = Method.later | {
        "router", "top_p", "threshold", "router_hidden", "balance_reduction",
    }  # fmt: skip
    share_A: ClassVar[bool] = False  # one A for all experts of a block

    r: Positive[int] = 8  # rank of every expert
    alpha: Positive[int] = 64  # scale is alpha / r; a step moves the output by about alpha, whatever r and the experts
    scale: Literal["equal", "published"] = "equal"  # published: alpha / r is 2 as in the papers, whatever alpha is
    dropout: ProperFraction = 0.0  # on the adapter's input; nothing to regularise in one pass, a fifth of a CPU step
    top_k: Positive[int] | None = None  # experts a token uses; none: all, softly
    renormalise: bool = True  # divide the top-k gates by their sum
    balance_loss: NotNegative[float] = 0.0  # coefficient of the Switch balance loss
    balance_reduction: Literal["mean", "sum", "pool"] = "mean"  # of that loss over routers, see smoe/routers/balance.py
    router: str = "softmax"  # how tokens choose experts, a name of smoe/routers
    top_p: Fraction = 0.8  # router top-p: what the probabilities of a token's experts exceed together
    threshold: Fraction | None = None  # router threshold: its largest value; none: 1/E
    router_hidden: Positive[int] = 128  # router sparsegen: hidden width of the network that blocks share
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.scale == "published" and self.alpha != ExpertMethod.alpha:
            raise ValueError(f"{self.name}: alpha {self.alpha} and scale published say two things; give one of them")
        try:
            SMoEConfig(**self.settings(), num_experts=max(getattr(self, "num_experts", 2), 2))
        except ValueError as error:
            raise ValueError(f"{self.name}: {error}") from error

    @property
    def expert(self) -> Unit:
        """What an expert brings to a block, and costs."""
        return Unit(self.expert_rank, self.share_A, self.router)

    @property
    def expert_rank(self) -> int:
        """Return the rank of an expert."""
        return self.r

    def settings(self) -> dict[str, Any]:
        """Return the fields of SMoEConfig but those on where experts go and what tasks there are."""
        return {
            "r": self.expert_rank,
            "lora_alpha": self.alpha if self.scale == "equal" else PUBLISHED_SCALE * self.r,
            "lora_dropout": self.dropout,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "threshold": self.threshold,
            "router_hidden": self.router_hidden,
            "renormalise": self.renormalise,
            "balance_loss": self.balance_loss,
            "balance_reduction": self.balance_reduction,
            "share_A": self.share_A,
            "router": self.router,
        }

    def shared_params(self, shapes: Shapes) -> int:
        """Count what routers train once for all blocks of one input width; shapes: of blocks with a router."""
        return shared_params(self.router, [inputs for inputs, _ in shapes.values()], self.router_hidden)

    @property
    def told_tasks(self) -> bool:
        return routers()[self.router].told_tasks

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        super().check(model, tasks, total_steps)
        if self.told_tasks and self.experts_everywhere < len(tasks):
            raise ValueError(
                f"{self.name}: router {self.router} needs an expert for each of {len(tasks)} tasks in every block, and "
                f"{self.experts_everywhere} are sure: ask for more, as in molora:num_experts={len(tasks)}"
            )

    @property
    def experts_everywhere(self) -> int:
        """Return the experts that every block with an adapter is sure to have."""
        return 1

    @abstractmethod
    def allocate(self, model: torch.nn.Module, probe: Probe) -> tuple[Mapping[str, int], Facts]:
        """Return the experts of every block of the frozen `model`, and JSON-ready facts on how they came about."""

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        experts, facts = self.allocate(model, probe)
        config = SMoEConfig(
            **self.settings(),
            expert_pattern=dict(experts),
            expert_ranks=facts.get("expert_ranks", {}),
            router_tasks=[task_id(task) for task in probe] if self.told_tasks else [],
            task_type="CAUSAL_LM",
        )
        attached: Attached = get_peft_model(model, config)
        attached.allocation_facts = {"experts": dict(experts), **facts}  # travels with the model until the record
        return attached

    def penalty(self, model: Attached) -> torch.Tensor | None:
        return model.base_model.take_balance_loss() if self.balance_loss else None

    def after_step(self, model: Attached, step: int) -> None:
        if routers()[self.router].biased:
            model.base_model.end_step()

    def router_diagnostics(self, model: Attached, probe: Probe) -> Facts:
        """Record what each router does on each task; blocks with one expert have none."""
        routers: Facts = {}
        for task, batches in probe.items():
            tell_task(model, task)
            with record_routing(model) as report, torch.no_grad():
                for batch in batches:
                    model(**model_inputs(model, batch["input_ids"], batch["attention_mask"]))
            routers[task] = {
                block: {"load": [round(x, 4) for x in b.load], "entropy": round(b.entropy, 4), "dead": b.dead}
                for block, b in report.blocks.items()
            }
        return {"router": routers}

    def facts(self, model: Attached) -> Facts:
        made = {block: n for block, n in model.allocation_facts["experts"].items() if n}
        if experts_per_block(model) != made:
            raise RuntimeError(f"{self.name}: the model's experts are not those that were allocated")
        return {**model.allocation_facts, "parameters": parameter_counts(model)}


@dataclass(frozen=True, kw_only=True, config=CHECKED)
class Experts(Allocator, ExpertMethod):
    """A mixture whose experts are placed by an importance, under a budget: three fields, of which one is set."""

    budget_fields: ClassVar[tuple[str, ...]] = ("mean_experts", "total_experts", "trainable_params")
    one_of: ClassVar[tuple[tuple[str, ...], ...]] = (budget_fields,)
    later: ClassVar[frozenset[str]] = Allocator.later | ExpertMethod.later | {"min_experts", "max_experts"}

    mean_experts: Positive[float] | None = 4.0  # budget: experts a block on average ...
    total_experts: Positive[int] | None = None  # ... or over all blocks ...
    trainable_params: Positive[int] | None = None  # ... or adapter parameters, routers included; one of the three
    min_experts: NotNegative[int] = 0  # of any block in the grouping
    max_experts: Positive[int] | None = None
    target_modules: tuple[str, ...] = DEFAULT_TARGETS

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mean_experts is not None and self.max_experts is not None and self.mean_experts > self.max_experts:
            raise ValueError(f"{self.name}: mean_experts {self.mean_experts} is above max_experts {self.max_experts}")

    @property
    def budget(self) -> Budget:
        return Budget(
            mean_experts=self.mean_experts, total_experts=self.total_experts, trainable_params=self.trainable_params
        )

    @property
    def unit(self) -> Unit:
        return self.expert

    @property
    def bounds(self) -> tuple[int, int | None]:
        return self.min_experts, self.max_experts

    @property
    def experts_everywhere(self) -> int:
        even = self.importance_name == "uniform" and self.mean_experts is not None
        return math.floor(self.mean_experts or 0) if even else self.min_experts

    @property
    def most(self) -> int:
        return self.max_experts or COMPONENTS

    def for_tasks(self, tasks: Sequence[str], shapes: Callable[[], Shapes]) -> Method:
        """Take the proportional rule where so few tasks have too few votes for the budget; see baselines/README.md."""
        enough = self.mean_experts is not None and self.mean_experts <= max(len(tasks), self.min_experts)
        if self.rule_name != "votes" or enough or len(tasks) < self.how.least_tasks:
            return self
        blocks = shapes()
        outline = self.how.outline(blocks, tasks, self.most)
        attempts: tuple[dict[str, Any], ...] = (
            {},
            {"rule": "proportional", "max_experts": self.max_experts or COMPONENTS},
        )
        for changes in attempts:
            with contextlib.suppress(ValueError):  # of the budget, or of bounds that are too narrow for it
                method = replace(self, **changes)
                method._spent(outline, blocks)
                return method
        return self  # `check` says why not

    def budget_hint(self, error: ValueError, tasks: Sequence[str]) -> str:
        """Say what to ask for where votes are too few for the budget, as they are with a task alone."""
        wanted, most = self.mean_experts or 0, max(len(tasks), self.min_experts)
        votes = self.rule_name == "votes"
        if not votes or self.max_experts is not None or not isinstance(error, BudgetError) or wanted <= most:
            return ""
        return (
            f". A block has one vote of each task that is trained with the others, here {len(tasks)}: ask for "
            f"{self.name}:mean_experts={most} or fewer, or {self.name}:rule=proportional, which has no such bound"
        )

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Fit a budget in parameters; a grouping that leaves blocks out takes a larger rank, not more experts."""
        self.leave_budget_to_match()
        targets, inside = self.blocks_inside(shapes)
        target_params -= self.shared_params({b: targets[b] for b in inside})
        sized = replace(self, mean_experts=None, total_experts=None, trainable_params=target_params)
        if len(inside) == len(targets):
            return sized
        each = round(self.mean_experts or (self.total_experts or 4 * len(inside)) / len(inside)) or 1
        price = [partial(block_params, targets[b], each, share_A=self.share_A, router=self.unit.router) for b in inside]
        return replace(sized, r=nearest_rank(lambda r: sum(of(r=r) for of in price), target_params))

    def matched_experts(self, total: int, shapes: Shapes) -> Method:
        self.leave_budget_to_match()
        return replace(self, mean_experts=None, total_experts=total, trainable_params=None)
