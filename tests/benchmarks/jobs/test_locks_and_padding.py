"""What a file system, an environment or a batch must not decide."""

from __future__ import annotations

import fcntl

import pytest
import torch
from families import family
from synthetic_records import make_spec

from baselines.importance.eva import explained, principal_components
from benchmarks.data.batches import collate
from benchmarks.data.examples import Example
from benchmarks.jobs.watch.leftovers import claim
from benchmarks.plan import blocks
from benchmarks.plan.parse import parse_methods
from smoe import find_blocks


def explained_variance(model, blocks, probe, components):
    """{block: share of the variance that each leading component explains}."""
    return explained(principal_components(model, blocks, probe, components), probe).components


def batches(size):
    rng = torch.Generator().manual_seed(0)
    rows = torch.randint(0, 250, (4, 40), generator=rng).tolist()
    examples = [Example("e", tuple(row[: 12 + 9 * i]), 3, False) for i, row in enumerate(rows)]
    return {"e": [collate(examples[i : i + size], 258) for i in range(0, 4, size)]}


@pytest.mark.parametrize("name", ["gpt2", "opt", "llama"])
def test_what_routers_do_does_not_hang_on_how_samples_are_batched(name):
    (method,) = parse_methods("molora:num_experts=3")
    net = family(name).requires_grad_(False)
    method = blocks.with_blocks(method, blocks.chosen(net, method, None))
    net = method.attach(net, batches(4), 4).eval()
    for p in net.parameters():
        if p.requires_grad:
            p.data.normal_(std=0.5)
    together, alone = (method.router_diagnostics(net, batches(n))["router"]["e"] for n in (4, 1))
    for block, facts in together.items():
        assert facts["load"] == pytest.approx(alone[block]["load"], abs=1e-3)


@pytest.mark.parametrize("name", ["gpt2", "opt"])
def test_explained_variance_is_measured_on_tokens_and_not_on_padding(name):
    net = family(name)
    chosen = {block: module for block, module in find_blocks(net).items() if ".0." in block}
    together, again = (explained_variance(net, chosen, batches(4), 3) for _ in range(2))
    assert together == again and set(together) == set(chosen)
    padded = {"e": [{k: torch.nn.functional.pad(v, (5, 0), value=-100 if k == "labels" else 0) for k, v in b.items()}
                    for b in batches(4)["e"]]}  # fmt: skip
    for block, ratios in explained_variance(net, chosen, padded, 3).items():
        assert ratios == pytest.approx(together[block], abs=1e-3)


def test_a_file_system_without_locks_is_warned_about_and_the_run_goes_on(monkeypatch, tmp_path):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked .*No locks available.*one run at a time"),
        claim(tmp_path, make_spec().key) as held,
    ):
        assert held and (tmp_path / "locks").is_dir()
