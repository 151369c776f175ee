"""The tuner's configuration, in PEFT's words where PEFT has one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from peft import PeftConfig
from peft.tuners.tuners_utils import BaseTuner
from peft.utils import PeftType


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
    share_A: bool = field(default=False, metadata={"help": "One A for all experts of a block, as in HydraLoRA."})
    router_init: float | str = field(
        default="kaiming",
        metadata={"help": "'kaiming' (uniform, as A) or the standard deviation of a normal; 0: even."},
    )
    init_weights: bool = field(
        default=True, metadata={"help": "B starts at zero. False: like A, for tests that need a non-zero update."}
    )
    bias: str = field(default="none", metadata={"help": "'none', 'all' or 'smoe_only', as in PEFT."})
    modules_to_save: list[str] | None = field(
        default=None, metadata={"help": "Further modules to train and save whole, as in PEFT."}
    )
    layers_to_transform: list[int] | int | None = field(default=None, metadata={"help": "As in PEFT."})
    layers_pattern: list[str] | str | None = field(default=None, metadata={"help": "As in PEFT."})

    def __post_init__(self) -> None:
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.peft_type = PeftType.SMOE  # type: ignore[attr-defined]  # added to the enum by smoe.registration
        for name in ("target_modules", "exclude_modules"):
            if isinstance(value := getattr(self, name), (list, tuple)):
                setattr(self, name, set(value))
        self.expert_pattern = dict(self.expert_pattern or {})
        self._check()

    def _check(self) -> None:
        for name in ("r", "num_experts"):
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
        if self.bias not in ("none", "all", "smoe_only"):
            raise ValueError(f"bias must be 'none', 'all' or 'smoe_only', got {self.bias!r}")
        if self.bias != "none" and not hasattr(BaseTuner, "_get_learnable_bias_state_dict"):
            raise ValueError(f"bias {self.bias!r} needs a newer PEFT: this one would train biases and not save them")
