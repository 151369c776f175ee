"""A tuner of PEFT as a contestant: one class for each type, whose settings are open and held as PEFT names them.

What PEFT leaves to its users is done here: AdaLoRA is driven with the run's own steps and its orthogonality term is
added, so are KaSA's and MonteCLoRA's losses; projections that a seed gives again are not saved. What cannot be done is
refused while planning (config.py), and every type is tried on one layer of the model's shapes before anything runs.
"""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from peft import get_peft_model
from peft.utils import TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING

from baselines.generic import config as configs
from baselines.generic import standin
from baselines.method import Attached, Method
from baselines.methods.adalora import AdaLora
from baselines.sizes import Shapes, own_shapes
from smoe import DEFAULT_TARGETS, Probe, block_shapes

PREFIX = "peft:"
NO_BLOCKS = frozenset("LN_TUNING TRAINABLE_TOKENS ADAPTION_PROMPT".split())  # train norms, tokens, attention outputs
BATCH_DEPENDENT = frozenset({"LILY"})  # mixes by the mean over a batch's tokens: scores move with the batch
OFF_BASE = frozenset("FOURIERFT C3A VBLORA UNILORA".split())  # as PEFT starts them by default
FEEDFORWARD = {name for names in TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING.values() for name in names}
# Field by which a type grows. Of others --match params leaves the size as it is.
SIZE = {
    **dict.fromkeys("LORA HIRA LOHA DELORA GRALORA DEFT PEANUT GLORA MISS HRA SHIRA LILY LOKR PSOFT".split(), "r"),
    **dict.fromkeys("FOURIERFT WAVEFT".split(), "n_frequency"),
    "VBLORA": "num_vectors",
    "UNILORA": "theta_d_length",
    "RANDLORA": "r",
    "OFT": "oft_block_size",
}
DECADES = (-1, 0, 1)  # of a grid of learning rates, around that of the run
Targets = Literal["suite", "own"]


@dataclass(frozen=True, kw_only=True, init=False)
class PeftTuner(Method):
    """A type of PEFT's with settings; `tuner` makes the class of a type."""

    summary: ClassVar[str] = "a tuner of PEFT by its configuration"
    source: ClassVar[str] = "PEFT"
    kind: ClassVar[str]  # PEFT's name of the type
    keeps_its_size: ClassVar[bool] = True

    targets: Targets  # suite: the blocks of all methods; own: the configuration's, or PEFT's for the model
    target_modules: tuple[str, ...] | None  # None: chosen by PEFT
    settings: Mapping[str, Any]  # of PEFT's configuration, where they differ from its defaults

    def __init__(
        self,
        *,
        targets: str | None = None,
        target_modules: Sequence[str] | str | None = None,
        settings: Mapping[str, Any] | None = None,
        **fields: Any,
    ):
        """Take the settings by name, as a spec holds them. Raises ValueError for one that PEFT does not have."""
        own = self.kind in NO_BLOCKS or (target_modules is not None and targets is None)
        targets = targets or ("own" if own else "suite")
        if targets not in ("suite", "own") or (targets == "suite" and self.kind in NO_BLOCKS):
            allowed = "own" if self.kind in NO_BLOCKS else "suite or own"
            raise ValueError(f"{self.name}: targets {targets!r} must be {allowed}")
        given = {**(settings or {}), **fields}
        if isinstance(target_modules, str):  # a pattern, or a word of PEFT's
            given["target_modules"], target_modules = target_modules, None
        if targets == "suite":
            given.pop("target_modules", None)
            target_modules = target_modules or DEFAULT_TARGETS
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "target_modules", None if target_modules is None else tuple(target_modules))
        object.__setattr__(self, "settings", configs.content(self.kind, given))
        self.__post_init__()

    @classmethod
    def grid(cls, rates: Sequence[float], peak: float) -> list[float]:
        """Return decades around the run's rate, since types learn at rates from 1e-4 to 0.3."""
        return [float(f"{peak * 10.0**power:.6g}") for power in DECADES]

    def hyperparameters(self) -> dict[str, Any]:
        named = (
            {} if self.targets == "suite" or self.target_modules is None else {"target_modules": self.target_modules}
        )
        return {"targets": self.targets, **named, **self.settings}

    @property
    def starts_at_base(self) -> bool:
        zeroed = self.kind in ("FOURIERFT", "C3A") and self.settings.get("init_weights") is True
        return zeroed or not (self.kind in OFF_BASE or {"kasa_config", "para"} & self.settings.keys())

    def check(self, model: torch.nn.Module, tasks: Sequence[str], total_steps: int) -> None:
        """Raise ValueError where the tuner cannot be put on one layer of this model, or trained in so few steps."""
        self.configuration(total_steps, self.target_modules)
        if self.target_modules is not None:
            shapes = own_shapes(block_shapes(model, "all-linear"), self.target_modules)
            self.count(standin.of_layers(shapes, 1), total_steps)

    def attach(self, model: torch.nn.Module, probe: Probe, total_steps: int) -> Attached:
        return get_peft_model(model, self.configuration(total_steps, self.target_modules, task_type="CAUSAL_LM"))

    def configuration(self, total_steps: int, blocks: Sequence[str] | None, **more: Any) -> Any:
        """Return PEFT's configuration. Raises ValueError for what PEFT refuses of it."""
        names = {field.name for field in dataclasses.fields(configs.config_class(self.kind))}
        values: dict[str, Any] = {"save_projection": False} if "save_projection" in names else {}
        values |= {**self.settings, **more}
        if blocks is not None:
            values["target_modules"] = list(blocks)
            if self.kind == "IA3":
                values["feedforward_modules"] = [b for b in blocks if b.rsplit(".", 1)[-1] in FEEDFORWARD]
        if self.kind == "ADALORA":
            published = values.get("total_step")  # whose schedule is of so many steps
            values["total_step"] = max(total_steps, 1)
            for name in ("tinit", "tfinal") if published else ():
                values[name] = round(values.get(name, 0) * total_steps / published)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Specified to not save")  # a seed gives them again
                return configs.config_class(self.kind)(**values)
        except (TypeError, ValueError, KeyError) as error:
            raise ValueError(f"{self.name}: PEFT refuses it: {error}") from error

    def count(self, shapes: Shapes, total_steps: int = 100) -> int:
        """Count what is trained on blocks of these shapes, by trying it. Raises ValueError with PEFT's reason."""
        config = self.configuration(total_steps, list(shapes))
        try:
            with torch.random.fork_rng():
                made = get_peft_model(standin.of_shapes(shapes), config)
        except Exception as error:  # of any tuner, for whatever does not fit
            raise ValueError(f"{self.name}: PEFT cannot put it on this model: {error}") from error
        return sum(p.numel() for p in made.parameters() if p.requires_grad)

    def penalty(self, model: Attached) -> torch.Tensor | None:
        """Return MonteCLoRA's loss of the samples just drawn, which PEFT leaves to its users."""
        return model.base_model._get_monteclora_loss() if "monteclora_config" in self.settings else None

    def regularizer(self, model: Attached) -> torch.Tensor | None:
        """Return the loss of the weights alone that PEFT adds to a loss of its own, or leaves to its users."""
        if "kasa_config" in self.settings:
            return model.base_model._get_kasa_loss()
        if self.kind == "ADALORA":
            return AdaLora(orthogonality=self.settings.get("orth_reg_weight", 0.5)).regularizer(model)
        return None

    def after_step(self, model: Attached, step: int) -> None:
        if self.kind == "ADALORA":
            model.base_model.update_and_allocate(step)

    def facts(self, model: Attached) -> dict[str, Any]:
        return {"batch_dependent": True} if self.kind in BATCH_DEPENDENT else {}

    def matched(self, target_params: int, shapes: Shapes) -> Method:
        """Return the tuner nearest to the size, found by bisection on measured counts; itself where it has no size."""
        if (field := SIZE.get(self.kind)) is None or self.target_modules is None:
            return self
        blocks = own_shapes(shapes, self.target_modules)

        @functools.cache
        def params(value: int) -> int | None:
            try:
                return replaced(self, field, value)._measured(blocks)
            except ValueError:  # of this size there is none
                return None

        usual = self.settings.get(field, configs.defaults(self.kind)[field])
        best = standin.nearest(params, usual, target_params)
        return self if best is None else replaced(self, field, best)

    def _measured(self, blocks: Shapes) -> int:
        """Count over all blocks, which is linear in the layers: a + b L, from one and from two of them."""
        layers = standin.layers(blocks)
        if layers < 3 or self.kind in BATCH_DEPENDENT:  # LILY's layers share
            return self.count(blocks)
        one, two = (self.count(standin.of_layers(blocks, n)) for n in (1, 2))
        return one + (two - one) * (layers - 1)


def replaced(method: PeftTuner, field: str, value: Any) -> PeftTuner:
    """Return the tuner with another value of one setting."""
    return dataclasses.replace(method, settings={**method.settings, field: value})


@functools.cache
def tuner(kind: str) -> type[PeftTuner]:
    """Return the contestant of a type, as "LORA". Raises ValueError for one that cannot be used."""
    configs.config_class(kind)
    name = f"{PREFIX}{kind}"
    return type(name, (PeftTuner,), {"name": name, "kind": kind, "__doc__": PeftTuner.__doc__})
