"""LoRA-SMoE: mixtures of LoRA experts, as many per weight block as the tasks' gradients say (arXiv 2505.06272).

    probe = {"boolq": [batch, ...], "piqa": [batch, ...]}      # calibration samples; input_ids, labels ...: (B, S)
    measured = sensitivity(model, probe)                       # S_k(W) = mean over samples of ||dL_n / dW||_F^2
    experts = allocate(measured.scores, budget=Budget(mean_experts=4))
    model = get_peft_model(model, SMoEConfig(r=8, expert_pattern=experts))
    ...                                                        # train, save_pretrained, from_pretrained as in PEFT

Importing this package registers the tuner with PEFT.

A block is one weight matrix: what PEFT calls a target module, such as "model.layers.0.self_attn.q_proj".

Dimension letters, one meaning in the whole repository:
B batch, S sequence, T tokens (B S flattened), I in, O out, R rank, E experts, K top-k.
"""

from smoe import registration  # isort: skip  # adds the member of PeftType that the configuration refers to
from smoe.allocation import (
    Budget,
    BudgetError,
    allocate,
    block_kind,
    block_params,
    grouped,
    load_flat,
    released_votes,
    save_flat,
    votes,
)
from smoe.blocks import DEFAULT_TARGETS, block_shapes, find_blocks, left_out, place
from smoe.config import SMoEConfig
from smoe.diagnostics import CHANGES, BlockRouting, RoutingReport, changed_routing, record_routing
from smoe.layer import SMoELinear
from smoe.model import SMoEModel, experts_per_block, parameter_counts, smoe_layers
from smoe.routers import Router, router, routers
from smoe.routers.balance import balance_loss
from smoe.routers.softmax import route
from smoe.routers.task import task_id
from smoe.sensitivity import Probe, Sensitivity, sensitivity

registration.register()

__all__ = [
    "CHANGES",
    "DEFAULT_TARGETS",
    "BlockRouting",
    "Budget",
    "BudgetError",
    "Probe",
    "Router",
    "RoutingReport",
    "SMoEConfig",
    "SMoELinear",
    "SMoEModel",
    "Sensitivity",
    "allocate",
    "balance_loss",
    "block_kind",
    "block_params",
    "block_shapes",
    "changed_routing",
    "experts_per_block",
    "find_blocks",
    "grouped",
    "left_out",
    "load_flat",
    "parameter_counts",
    "place",
    "record_routing",
    "released_votes",
    "route",
    "router",
    "routers",
    "save_flat",
    "sensitivity",
    "smoe_layers",
    "task_id",
    "votes",
]
