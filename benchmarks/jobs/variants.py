"""Evaluations of a trained model whose routers are made to do something else: what the routers carry.

Asked for by `--probe-router`; on record as variants, charged to no phase. A model without a router that tells tokens
apart has none.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from baselines.method import Attached
from results import Score
from smoe import CHANGES, changed_routing, smoe_layers


def router_variants(
    model: Attached, evaluate: Callable[[], Mapping[str, Score]], pad_token_ids: Collection[int], seed: int
) -> dict[str, Mapping[str, Score]] | None:
    """Return the scores by task with gates shuffled over tokens and made uniform; None where no router decides.

    pad_token_ids: with which the evaluation pads where it gives no mask; seed: of the shuffling.
    """
    if not any(
        experts > 1 and layer.routers[adapter].rows != "none"
        for layer in smoe_layers(model).values()
        for adapter, experts in layer.experts.items()
    ):
        return None
    variants = {}
    for how in CHANGES:
        with changed_routing(model, how, pad_token_ids=pad_token_ids, seed=seed):
            variants[how] = evaluate()
    return variants
