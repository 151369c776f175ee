"""The tuner: puts `SMoELinear` where the configuration says, and adds the balance loss while training.

Works with the whole of PEFT's public interface for injected adapters. `adapter_names` within a batch is refused, and
merging is exact for one expert and refused, with the blocks' names, where a router decides per token.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import nn

from smoe.blocks import DEFAULT_TARGETS, find_blocks, is_block
from smoe.config import SMoEConfig
from smoe.layer import SMoELinear
from smoe.routers import Router, router
from smoe.routers.balance import reduced
from smoe.routers.sigmoid import SigmoidBias, moved
from smoe.routers.state import Routed, RoutingState
from smoe.variants.feed_forward import make_mixtures, undo_mixtures


class SMoEModel(BaseTuner):
    """LoRA-SMoE as a PEFT tuner; made by `peft.get_peft_model(model, SMoEConfig(...))`."""

    prefix = "smoe_"
    tuner_layer_cls = SMoELinear
    target_module_mapping: dict[str, list[str]] = {}  # noqa: RUF012 - no ClassVar in PEFT either

    def _pre_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        self.routing = RoutingState()
        self._pending_balance: torch.Tensor | None = None
        self._balance_hooks: list[Any] = []
        self._routers: dict[str, Router] = {}  # of every adapter

    def _prepare_adapter_config(self, peft_config: Any, model_config: dict[str, Any]) -> Any:
        names = {name.replace(".base_layer", "") for name, _ in self.model.named_modules()}
        if unknown := sorted(set(peft_config.expert_pattern) - names):
            raise ValueError(f"expert_pattern names blocks that the model does not have, e.g. {unknown[0]}")
        if peft_config.target_modules is None:
            if peft_config.expert_pattern:
                named = {b for b, experts in peft_config.expert_pattern.items() if experts > 0}
                peft_config.target_modules = _in_layers(peft_config, named)
                if not peft_config.target_modules:
                    raise ValueError("expert_pattern gives no block an expert")
            else:
                blocks = find_blocks(self.model)
                short = {name for name in names if name.rsplit(".", 1)[-1] in DEFAULT_TARGETS} == set(blocks)
                peft_config.target_modules = set(DEFAULT_TARGETS) if short else _in_layers(peft_config, blocks)
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
        self._routers[adapter_name] = router(peft_config.router)
        chosen = self._routers[adapter_name]
        if (peft_config.balance_loss > 0 or chosen.biased or chosen.shares) and not self._balance_hooks:
            self._listen()
        if isinstance(target, SMoELinear):
            target.update_layer(adapter_name, experts, peft_config)
            return
        if isinstance(target, BaseTunerLayer) or not is_block(target):
            kind = type(target).__name__
            raise ValueError(f"{current_key} is a {kind}, not a linear layer: it cannot get experts")
        layer = SMoELinear(target, current_key, self.routing)
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

    def _post_injection_hook(self, model: nn.Module, config: Any, adapter_name: str) -> None:
        if config.feed_forward:
            make_mixtures(model, adapter_name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        # PEFT before 0.20 calls `model.forward`, past the hooks that hear the routers and add the balance loss.
        return self.model(*args, **kwargs)

    def enter_tasks(self, ids: torch.Tensor) -> None:
        """Tell the routers the task of each sample of the passes to come, `smoe.task_id` of its name, (B,).

        Raises ValueError for a task that an adapter with router "task" has no expert for.
        """
        for name in self.active_adapters:
            config = self._config(name)
            if router(config.router).told_tasks and (unknown := set(ids.tolist()) - set(config.router_tasks)):
                raise ValueError(f"adapter {name!r} has no expert for task id {min(unknown)}: it was not trained on")
        self.routing.tasks = ids

    def end_step(self) -> None:
        """Move the biases that even out how often experts are used; call it after every optimiser step."""
        used = self.routing.take_used()
        for layer in smoe_layers(self.model).values():
            for adapter in self.active_adapters:
                counts = used.get((layer.block, adapter))
                if counts is not None and self._config(adapter).router == SigmoidBias.name:
                    layer.smoe_d[adapter] = moved(layer.smoe_d[adapter], counts.to(layer.smoe_d[adapter].device))

    def _listen(self) -> None:
        # Hooks of the model itself, since PeftModel may call it without passing through this class.
        self._balance_hooks = [
            self.model.register_forward_pre_hook(self._before_forward),
            self.model.register_forward_hook(self._after_forward, with_kwargs=True),
        ]

    def _before_forward(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self._pending_balance = None
        self.routing.forget()
        if module.training and torch.is_grad_enabled() and (self._balanced_adapters() or self._biased_adapters()):
            self.routing.start()
        elif not self.routing.external:
            self.routing.stop()

    def _after_forward(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not (module.training and torch.is_grad_enabled()):
            return output
        total: torch.Tensor | None = None
        mask = kwargs.get("attention_mask")
        if self._biased_adapters():
            self.routing.count(mask)
        for adapter in self._balanced_adapters():
            config = self._config(adapter)
            seen = [r for (_, name), passes in self.routing.seen.items() if name == adapter for r in passes]
            if seen:
                one = partial(_balance, self._routers[adapter], config)
                loss = reduced(one, seen, config.balance_reduction, config.top_k, mask)
                total = config.balance_loss * loss + (0 if total is None else total)
        if not self.routing.external:
            self.routing.stop()
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

    def _biased_adapters(self) -> list[str]:
        return [name for name in self.active_adapters if name in self._routers and self._routers[name].biased]

    def merge_and_unload(
        self, progressbar: bool = False, safe_merge: bool = False, adapter_names: list[str] | None = None
    ) -> nn.Module:
        """Merge and return the base model. Raises ValueError, before anything is merged, where a router decides."""
        self._refuse_routers(adapter_names)
        self._remove_hooks()
        undo_mixtures(self.model)
        return super().merge_and_unload(progressbar, safe_merge, adapter_names)

    def unload(self) -> nn.Module:
        """Return the base model as it was. Raises ValueError where an adapter rewrote its weights."""
        if rewritten := [n for n in self.peft_config if self._config(n).rewrites_base]:
            raise ValueError(f"adapter {rewritten[0]!r} took its start out of the base weights: load the base anew")
        self._remove_hooks()
        undo_mixtures(self.model)
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


def _in_layers(config: Any, blocks: Iterable[str]) -> set[str]:
    """Return those whole names that lie in `layers_to_transform`, which PEFT reads for last parts of names alone."""
    by_last_part = copy.copy(config)
    by_last_part.target_modules = {block.rsplit(".", 1)[-1] for block in blocks}
    return {block for block in blocks if BaseTuner._check_target_module_exists(by_last_part, block)}


def _balance(chosen: Router, config: SMoEConfig, routed: Routed, mask: torch.Tensor | None) -> torch.Tensor:
    return chosen.balance(routed, config, mask)


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
    """Count trained adapter parameters: "experts" (A and B), "router", and "active_per_token" (what a token meets)."""
    counts = {"experts": 0, "router": 0, "active_per_token": 0}
    for layer in smoe_layers(model).values():
        if adapter not in layer.experts:
            continue
        experts, config = layer.experts[adapter], layer.configs[adapter]
        a, b = layer.smoe_A[adapter].numel(), layer.smoe_B[adapter].numel()
        chosen = layer.routers[adapter]
        own = layer.smoe_P[adapter].numel() if adapter in layer.smoe_P else 0
        rows = (experts + chosen.extra_rows) * layer.in_features if experts > 1 and chosen.rows == "trained" else 0
        used = 1 if chosen.told_tasks else min(config.top_k or experts, experts)
        counts["experts"] += a - rows + b
        counts["router"] += rows + own
        counts["active_per_token"] += (
            rows + own + (a - rows) // (1 if config.share_A else experts) * (1 if config.share_A else used)
        )
        counts["active_per_token"] += b // experts * used
    return counts
