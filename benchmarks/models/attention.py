"""Which attention a model computes with: SDPA without the host sync of the mask check off the CPU, eager on it.

On a CPU eager is about a third faster forward and backward at the lengths of these tasks, and slower under a mask of
one's own without a backward pass: `masked` is for that.

Two things are otherwise off the CPU than torch and transformers have them. cuDNN's attention, which torch 2.11 to 2.13
prefer on an H100, gives NaN gradients under an explicit mask at some widths (those with 64 left over of 128), and makes
a plan for every new width: it is switched off, and the memory-efficient kernel takes masks. That kernel turns a mask of
booleans into numbers in every layer, and copies one whose rows are not aligned: here a mask is made of numbers, in the
model's dtype and aligned, once a pass. A row that may read nothing reads everything alike, as in eager attention: its
result is nobody's, and finite.

transformers looks whether a batch has any padding, to do without a mask where it has none: `if mask.all()`, for which
the host waits, in every forward pass, until the device has done all work before it. Here a mask is made wherever one is
given; the rest is theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from smoe.gradients import innermost

EAGER, SDPA = "eager", "sdpa"
SDPA_NO_SYNC = "sdpa_no_sync"  # the name for `attn_implementation`
ALIGNED = 16  # numbers of a mask's row; the kernel wants 16 bytes

torch.backends.cuda.enable_cudnn_sdp(False)


def _mask(*args: Any, **kwargs: Any) -> Any:
    """Return what is added to the scores, (B, 1, S, S) in the model's dtype; None where there is no padding mask."""
    if kwargs.get("attention_mask") is None:
        return sdpa_mask(*args, **kwargs)
    allowed = sdpa_mask(*args, **{**kwargs, "allow_is_causal_skip": False})
    if allowed is None:  # of an encoder
        return None
    dtype, width = kwargs.get("dtype", torch.float32), allowed.shape[-1]
    added = torch.zeros(
        (*allowed.shape[:-1], width + -width % ALIGNED), dtype=dtype, device=allowed.device
    )[..., :width]  # fmt: skip
    return added.masked_fill_(~allowed, torch.finfo(dtype).min)


AttentionInterface.register(SDPA_NO_SYNC, sdpa_attention_forward)
AttentionMaskInterface.register(SDPA_NO_SYNC, _mask)


def off_the_cpu(model: Any) -> str:
    """Name the attention that this model computes with on a GPU."""
    return SDPA_NO_SYNC if takes_sdpa(model) else EAGER


def takes_sdpa(model: Any) -> bool:
    """Whether SDPA computes all of this model's attention: it leaves out the soft caps of Gemma 2."""
    return bool(model._supports_sdpa) and getattr(model.config, "attn_logit_softcapping", None) is None


@contextmanager
def masked(model: Any) -> Iterator[Any]:
    """Yield the model as it is fastest under a mask of one's own, without gradients: on a CPU by SDPA."""
    core = innermost(model)
    before = getattr(core.config, "_attn_implementation", None)
    if before != EAGER or not takes_sdpa(core):
        yield model
        return
    core.set_attn_implementation(SDPA)
    try:
        yield model
    finally:
        core.set_attn_implementation(before)
