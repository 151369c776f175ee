"""The tuner: puts `SMoELinear` where the configuration says, and adds the balance loss while training.

Works with the whole of PEFT's public interface for injected adapters. `adapter_names` within a batch is refused, and
merging is exact for one expert and refused, with the blocks' names, where a router decides per token.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from smoe.blocks import is_block, resolve_targets
from smoe.config import SMoEConfig
from smoe.layer import RouterRecorder, SMoELinear
from smoe.routers.balance import balance_loss


class SMoEModel(BaseTuner):
    """LoRA-SMoE as a PEFT tuner; made by `peft.get_peft_model(model, SMoEConfig(...))`."""

    prefix = "smoe_"
    tuner_layer_cls = SMoELinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - no ClassVar in PEFT either

    def _pre_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        self.recorder = RouterRecorder()
        self._pending_balance: torch.Tensor | None = None
        self._balance_hooks: list[Any] = []

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        names = {name.replace(".base_layer", "") for name, _ in self.model.named_modules()}
        if unknown := sorted(set(peft_config.expert_pattern) - names):
            raise ValueError(f"expert_pattern names blocks that the model does not have, e.g. {unknown[0]}")
        if peft_config.target_modules is None:
            if peft_config.expert_pattern:
                peft_config.target_modules = {b for b, experts in peft_config.expert_pattern.items() if experts > 0}
                if not peft_config.target_modules:
                    raise ValueError("expert_pattern gives no block an expert")
            else:
                targets = resolve_targets(self.model)
                peft_config.target_modules = targets if isinstance(targets, str) else set(targets)
        return peft_config

    @staticmethod
    def _check_target_module_exists(peft_config: Any, key: str) -> Any:
        if peft_config.expert_pattern.get(key) == 0:
            return False
        return BaseTuner._check_target_module_exists(peft_config, key)

    def _create_and_replace(
        self,
        peft_config: Any,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        experts = peft_config.expert_pattern.get(current_key, peft_config.num_experts)
        if peft_config.balance_loss > 0 and not self._balance_hooks:
            self._listen_for_balance()
        if isinstance(target, SMoELinear):
            target.update_layer(adapter_name, experts, peft_config)
            return
        if isinstance(target, BaseTunerLayer) or not is_block(target):
            kind = type(target).__name__
            raise ValueError(f"{current_key} is a {kind}, not a linear layer: it cannot get experts")
        layer = SMoELinear(target, current_key, self.recorder)
        layer.update_layer(adapter_name, experts, peft_config)
        layer.train(self.training)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _enable_peft_forward_hooks(self, *args: Any, **kwargs: Any) -> AbstractContextManager[None]:
        # Without this method PEFT would drop `adapter_names` and give every row the active adapter.
        if kwargs.get("adapter_names") is not None:
            raise ValueError("different adapters within one batch (adapter_names) are not supported by smoe")
        return nullcontext()

    def _listen_for_balance(self) -> None:
        # Hooks of the model itself, since PeftModel may call it without passing through this class.
        self._balance_hooks = [
            self.model.register_forward_pre_hook(self._before_forward),
            self.model.register_forward_hook(self._after_forward, with_kwargs=True),
        ]

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._pending_balance = None
        if module.training and torch.is_grad_enabled() and self._balanced_adapters():
            self.recorder.start()
        elif not self.recorder.external:
            self.recorder.stop()

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return output
        total: torch.Tensor | None = None
        for adapter in self._balanced_adapters():
            config, mask = self._config(adapter), kwargs.get("attention_mask")
            seen = [p for (_, name), gates in self.recorder.seen.items() if name == adapter for p in gates]
            if seen:
                mean = torch.stack([balance_loss(p, config.top_k, mask) for p in seen]).mean()
                total = config.balance_loss * mean + (0 if total is None else total)
        if not self.recorder.external:
            self.recorder.stop()
        if total is None:
            return output
        if not total.requires_grad:
            raise RuntimeError(
                "the balance loss has no gradient: use gradient checkpointing with "
                "gradient_checkpointing_kwargs={'use_reentrant': False}"
            )
        if getattr(output, "loss", None) is not None:
            output["loss"] = output.loss + total * _share_of_step(kwargs)
        else:
            self._pending_balance = total
        return output

    def take_balance_loss(self) -> torch.Tensor | None:
        """Return, once, the weighted balance loss of the last training forward that its `loss` does not hold yet.

        None when there is nothing to add: no coefficient, evaluation, or labels were given and `forward` added it.
        """
        pending, self._pending_balance = self._pending_balance, None
        return pending

    def _config(self, adapter: str) -> SMoEConfig:
        return cast(SMoEConfig, self.peft_config[adapter])

    def _balanced_adapters(self) -> list[str]:
        return [name for name in self.active_adapters if self._config(name).balance_loss > 0]

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """Merge and return the base model. Raises ValueError, before anything is merged, where a router decides."""
        self._refuse_routers(adapter_names)
        self._remove_hooks()
        return super().merge_and_unload(progressbar, safe_merge, adapter_names)

    def unload(self) -> nn.Module:
        """Return the base model as it was."""
        self._remove_hooks()
        return super().unload()

    def _remove_hooks(self) -> None:
        for handle in self._balance_hooks:
            handle.remove()
        self._balance_hooks = []

    def merge_adapter(self, adapter_names: list[str] | None = None, safe_merge: bool = False) -> None:
        """Merge in place. Raises ValueError, before anything is merged, where a router decides."""
        self._refuse_routers(adapter_names)
        super().merge_adapter(adapter_names, safe_merge)

    def _refuse_routers(self, adapter_names: list[str] | None) -> None:
        names = self.active_adapters if adapter_names is None else adapter_names
        layers = [m for m in self.model.modules() if isinstance(m, SMoELinear)]
        if routed := [m.block for m in layers if not all(m.mergeable(name) for name in names)]:
            raise ValueError(
                f"{len(routed)} blocks have several experts, whose router decides per token and cannot be merged: "
                f"{', '.join(routed)}"
            )


def _share_of_step(kwargs: dict[str, Any]) -> torch.Tensor | float:
    """Return the batch's share of its optimiser step, for a loss summed over the micro-batches of a step.

    `Trainer` passes `num_items_in_batch`, the answer tokens of the whole step, and divides by nothing else; without it
    a loss is a mean, and whoever accumulates divides it.
    """
    items, labels = kwargs.get("num_items_in_batch"), kwargs.get("labels")
    if items is None or labels is None:
        return 1.0
    share: torch.Tensor = ((labels[..., 1:] != -100).sum() / items).clamp(max=1)
    return share


def smoe_layers(model: nn.Module) -> dict[str, SMoELinear]:
    """Return the expert layers of a model by block name, in module order."""
    return {m.block: m for m in model.modules() if isinstance(m, SMoELinear)}


def experts_per_block(model: nn.Module, adapter: str = "default") -> dict[str, int]:
    """Return the number of experts of every block that has an adapter, in module order."""
    return {block: m.experts[adapter] for block, m in smoe_layers(model).items() if adapter in m.experts}


def parameter_counts(model: nn.Module, adapter: str = "default") -> dict[str, int]:
    """Count adapter parameters: "experts" (A and B), "router", and "active_per_token" (those that a token meets)."""
    counts = {"experts": 0, "router": 0, "active_per_token": 0}
    for layer in smoe_layers(model).values():
        if adapter not in layer.experts:
            continue
        experts, config = layer.experts[adapter], layer.configs[adapter]
        a, b = layer.smoe_A[adapter].numel(), layer.smoe_B[adapter].numel()
        router = experts * layer.in_features if experts > 1 else 0
        used = min(config.top_k or experts, experts)
        counts["experts"] += a - router + b
        counts["router"] += router
        counts["active_per_token"] += router + (a - router) // (1 if config.share_A else experts) * (
            1 if config.share_A else used
        )
        counts["active_per_token"] += b // experts * used
    return counts
