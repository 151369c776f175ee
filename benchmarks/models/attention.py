"""SDPA without the host sync of the mask check; what models use off the CPU.

transformers looks whether a batch has any padding, to do without a mask where it has none: `if mask.all()`, for which
the host waits, in every forward pass, until the device has done all work before it. Here a mask is made wherever one is
given; the rest is theirs.
"""

from __future__ import annotations

from typing import Any

from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

SDPA_NO_SYNC = "sdpa_no_sync"  # the name for `attn_implementation`


def _mask(*args: Any, **kwargs: Any) -> Any:
    if kwargs.get("attention_mask") is not None:
        kwargs["allow_is_causal_skip"] = False
    return sdpa_mask(*args, **kwargs)


AttentionInterface.register(SDPA_NO_SYNC, sdpa_attention_forward)
AttentionMaskInterface.register(SDPA_NO_SYNC, _mask)
