"""The tuner's configuration, in PEFT's words where PEFT has one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType

from smoe.routers import router
from smoe.routers.balance import REDUCTIONS


@dataclass
class SMoEConfig(PeftConfig):
    """Mixtures of LoRA experts with a number of experts per block.

    y = W x + (lora_alpha / r) sum_e g_e(x) B_e A_e x. A block with one expert has no router and is LoRA; a block with
    none is left alone. Saved as `adapter_config.json`.
    """

    r: int = field(default=8, metadata={"help": "Rank of every expert."})
    lora_alpha: float = field(default=16, metadata={"help": "The update is scaled by lora_alpha / r."})
    lora_dropout: float = field(default=0.05, metadata={"help": "Dropout of the input of experts and router."})
    target_modules: list[str] | set[str] | str | None = field(
        default=None,
        metadata={
            "help": "Names, a regular expression, or 'all-linear', as in PEFT. None: the blocks of expert_pattern if "
            "there is one, else the seven Llama projections, else 'all-linear'."
        },
    )
    exclude_modules: list[str] | set[str] | str | None = field(
        default=None, metadata={"help": "Names or a regular expression of modules to leave alone, as in PEFT."}
    )
    num_experts: int = field(default=4, metadata={"help": "Experts of a block that expert_pattern does not name."})
    expert_pattern: dict[str, int] = field(
        default_factory=dict,
        metadata={"help": "Whole block name -> experts, e.g. an allocation; 0 leaves the block without an adapter."},
    )
    top_k: int | None = field(default=None, metadata={"help": "Experts a token uses, min(top_k, E); None: all (soft)."})
    renormalise: bool = field(default=True, metadata={"help": "Divide the top-k gates by their sum."})
    balance_loss: float = field(
        default=0.0, metadata={"help": "Coefficient of the Switch balance loss, averaged over routers; 0: none."}
    )
    balance_reduction: str = field(
        default="mean",
        metadata={"help": "Over routers: 'mean', 'sum' or 'pool' (all tokens together), see smoe/routers/balance.py."},
    )
    share_A: bool = field(default=False, metadata={"help": "One A for all experts of a block, as in HydraLoRA."})
    router: str = field(
        default="softmax",
        metadata={"help": "How tokens choose experts: softmax, uniform, ..., see smoe/routers."},
    )
    router_tasks: list[int] = field(
        default_factory=list,
        metadata={"help": "Router 'task': smoe.task_id of each task, in order of experts."},
    )
    top_p: float = field(default=0.8, metadata={"help": "Router 'top-p': what the chosen probabilities exceed."})
    threshold: float | None = field(
        default=None, metadata={"help": "Router 'threshold': its largest value, tau_max; None: 1/E."}
    )
    router_hidden: int = field(default=128, metadata={"help": "Router 'sparsegen': hidden width of its network."})
    feed_forward: bool = field(
        default=False,
        metadata={
            "help": "Experts are whole feed-forward nets with one router each, see smoe/variants/feed_forward.py; "
            "blocks outside them are as ever."
        },
    )
    expert_ranks: dict[str, list[int]] = field(
        default_factory=dict,
        metadata={"help": "Whole block name -> rank of each expert, where they differ; each has lora_alpha / rank."},
    )
    router_init: float | str = field(
        default="kaiming",
        metadata={"help": "'kaiming' (uniform, as A) or the standard deviation of a normal; 0: even."},
    )
    init_weights: bool | str = field(
        default=True,
        metadata={
            "help": "B starts at zero. False: like A, for tests that need a non-zero update. 'svd': the experts start "
            "as segments of the weight's decomposition, see smoe/variants/svd_start.py."
        },
    )
    svd_residual: bool = field(
        default=True, metadata={"help": "init_weights 'svd': take the experts' mean out of the frozen weight."}
    )
    svd_rho: float = field(default=10.0, metadata={"help": "init_weights 'svd': the start is divided by this."})
    input_scale: float | None = field(
        default=None, metadata={"help": "The update is scaled by sqrt(3 input_scale I / r), not by lora_alpha / r."}
    )
    bias: str = field(default="none", metadata={"help": "'none', 'all' or 'smoe_only', as in PEFT."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Further modules to train and save whole, as in PEFT."}
    )
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "As in PEFT."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "As in PEFT."})
    trainable_token_indices: list[int] | dict[str, list[int]] | None = field(
        default=None, metadata={"help": "Rows of the embedding to train as well, as in PEFT's LoRA."}
    )

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PeftType.SMOE  # type: ignore[attr-defined]  # added to the enum by smoe.registration
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        if self.expert_pattern is None:
            self.expert_pattern = {}
        if isinstance(self.expert_pattern, Mapping):
            self.expert_pattern = dict(self.expert_pattern)
        self._check()

    @property
    def rewrites_base(self) -> bool:
        """Whether the adapter's start was taken out of the frozen weights."""
        return self.init_weights == "svd" and self.svd_residual

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Any:
        """Read `adapter_config.json` as PEFT does. Raises ValueError for a file that is none."""
        try:
            return super().from_pretrained(*args, **kwargs)
        except (TypeError, AttributeError, KeyError, RecursionError) as error:
            raise ValueError(f"{args[0] if args else 'the folder'}: adapter_config.json is none: {error}") from error

    def _check_types(self) -> None:
        """Raise ValueError for a field that is not of its declared type, as a file may hold."""
        declared = {field.name for field in fields(SMoEConfig)} - {field.name for field in fields(PeftConfig)}
        for name, hint in get_type_hints(SMoEConfig).items():
            if name in declared and not _fits(value := getattr(self, name), hint):
                wanted = str(hint).removeprefix("<class '").removesuffix("'>")
                raise ValueError(f"{name} must be {wanted}, got {value!r:.80}")

    def _check_layers(self) -> None:
        """Raise ValueError where PEFT's LoRA does."""
        for name in ("layers_to_transform", "layers_pattern"):
            if isinstance(self.target_modules, str) and getattr(self, name) is not None:
                raise ValueError(
                    f"{name} cannot be used when target_modules is a str ({self.target_modules!r}); name the modules "
                    "in a list, or leave the layers to the regular expression"
                )
        if self.layers_pattern and self.layers_to_transform is None:
            raise ValueError(
                f"layers_pattern {self.layers_pattern!r} needs layers_to_transform, the numbers of the layers"
            )

    def _check_start(self) -> None:
        if self.feed_forward and (self.share_A or self.expert_ranks or self.input_scale is not None):
            raise ValueError("feed_forward goes with equal ranks, an A for every expert, and the scale lora_alpha / r")
        if self.balance_reduction not in REDUCTIONS:
            raise ValueError(
                f"balance_reduction must be one of {', '.join(REDUCTIONS)}, got {self.balance_reduction!r}"
            )
        if self.init_weights not in (True, False, "svd"):
            raise ValueError(f"init_weights must be true, false or 'svd', got {self.init_weights!r}")
        if not self.svd_rho > 0 or (self.input_scale is not None and not self.input_scale > 0):
            raise ValueError(f"svd_rho {self.svd_rho!r} and input_scale {self.input_scale!r} must be above 0")
        for block, ranks in self.expert_ranks.items():
            experts = self.expert_pattern.get(block, self.num_experts)
            if len(ranks) != experts or any(isinstance(r, bool) or not isinstance(r, int) or r < 1 for r in ranks):
                raise ValueError(
                    f"expert_ranks[{block!r}] must be whole numbers from 1 for {experts} experts, got {ranks!r}"
                )
        if self.expert_ranks and (self.share_A or self.init_weights == "svd" or self.input_scale is not None):
            raise ValueError("experts of unequal ranks share no A, start at no decomposition and have alpha / rank")

    def _check(self) -> None:
        self._check_types()
        self._check_layers()
        self._check_start()
        for name in ("r", "num_experts", "router_hidden"):
            if not isinstance(value := getattr(self, name), int) or value < 1:
                raise ValueError(f"{name} must be a whole number from 1, got {value!r}")
        for block, experts in self.expert_pattern.items():
            if isinstance(experts, bool) or not isinstance(experts, int) or experts < 0:
                raise ValueError(f"expert_pattern[{block!r}] must be a whole number from 0, got {experts!r}")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k must be None or from 1, got {self.top_k!r}")
        if not 0 <= self.lora_dropout < 1:
            raise ValueError(f"lora_dropout must lie in [0, 1), got {self.lora_dropout!r}")
        if not (math.isfinite(self.balance_loss) and self.balance_loss >= 0):
            raise ValueError(f"balance_loss must be a number from 0, got {self.balance_loss!r}")
        if self.router_init != "kaiming" and (isinstance(self.router_init, str) or self.router_init < 0):
            raise ValueError(f"router_init must be 'kaiming' or a number from 0, got {self.router_init!r}")
        if self.balance_loss and router(self.router).rows != "trained":
            raise ValueError(f"router {self.router} trains nothing: leave balance_loss {self.balance_loss!r} out")
        router(self.router).check(self)
        if self.bias not in ("none", "all", "smoe_only"):
            raise ValueError(f"bias must be 'none', 'all' or 'smoe_only', got {self.bias!r}")
        if self.bias != "none" and not hasattr(BaseTuner, "_get_learnable_bias_state_dict"):
            raise ValueError(f"bias {self.bias!r} needs a newer PEFT: this one would train biases and not save them")


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of a declared type; a whole number is a float, and True is no number."""
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, option) for option in inside)
    if kind in (int, float):
        return isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if kind in (list, set):
        return isinstance(value, list | tuple | set) and all(_fits(entry, inside[0]) for entry in value)
    if kind is dict:
        return isinstance(value, dict) and all(_fits(k, inside[0]) and _fits(v, inside[1]) for k, v in value.items())
    return isinstance(value, kind)
