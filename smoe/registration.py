"""Makes PEFT know the tuner. Importing `smoe` does it, once a process.

PEFT refuses a name that is not a member of its `PeftType`, so the member is added first; `extend_enum` of aenum does
that on every Python that PEFT supports. Supported: PEFT 0.19 to 0.21, whose first and last are tested.
"""

from __future__ import annotations

from aenum import extend_enum
from peft.utils import PeftType, register_peft_method

if "SMOE" not in PeftType.__members__:
    extend_enum(PeftType, "SMOE", "SMOE")


def register() -> None:
    """Register the tuner; a second call does nothing."""
    from peft.mapping import PEFT_TYPE_TO_TUNER_MAPPING

    from smoe.config import SMoEConfig
    from smoe.model import SMoEModel

    if PeftType.SMOE not in PEFT_TYPE_TO_TUNER_MAPPING:  # type: ignore[attr-defined]
        register_peft_method(name="smoe", config_cls=SMoEConfig, model_cls=SMoEModel, prefix="smoe_")
