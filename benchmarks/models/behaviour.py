"""Whether a model is what training and evaluation take it for: causal, and blind to padding on the left.

    python -m benchmarks.models.behaviour MODEL [--trust-remote-code]

prints both as JSON. The plan asks this in a child process, whose memory goes with it, and keeps the answer by the
model's content. Weights are loaded in float32 on the CPU; a model that does not fit there is not looked at.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any

import torch

from benchmarks.models.assets import cache
from benchmarks.models.load import count, load, skeleton
from results.files import write_whole
from results.private import ROOT
from smoe.gradients import model_inputs

LIMIT = 1e-3  # largest change of a log-probability in float32
TEXTS = ("The capital of France is", "Water boils at a hundred degrees", "One two three four five six seven eight")
TIMEOUT_SECONDS = 1800


def check(name: str, content: str | None, trust_remote_code: bool = False) -> None:
    """Raise ValueError for a model that is not causal or reads padding; looked at once for each content.

    content: as `identity.content` gives it; None, a name that is defined here, is taken as it is.
    """
    if content is None or not _fits(name, trust_remote_code):
        return
    kept = cache() / "behaviour" / f"{content}.json"
    measured: dict[str, float] | None = None
    with contextlib.suppress(OSError, ValueError):
        measured = json.loads(kept.read_text())
    if measured is None:
        measured = _in_a_child(name, trust_remote_code)
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time, no more
            write_whole(kept, json.dumps(measured))
    refuse(name, measured)


def refuse(name: str, measured: dict[str, float]) -> None:
    """Raise ValueError where what `measure` gave is above the limit."""
    if not measured["later_token"] <= LIMIT:
        raise ValueError(
            f"model {name!r} is no causal language model: a later token moves the log-probabilities of an earlier one "
            f"by {measured['later_token']:.2g} (at most {LIMIT:g}); choose a decoder"
        )
    if not measured["padding"] <= LIMIT:
        raise ValueError(
            f"model {name!r} reads padding: beside a longer text in a batch its log-probabilities move by "
            f"{measured['padding']:.2g} (at most {LIMIT:g}), so that it cannot be trained here; choose one that takes "
            "an attention mask"
        )


@torch.no_grad()
def measure(model: Any, tokenizer: Any) -> dict[str, float]:
    """Return the largest change of a log-probability by a later token, and by padding on the left of a batch."""
    rows = [tokenizer(text)["input_ids"] for text in TEXTS]
    width = max(map(len, rows))
    ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(row)) + row for row in rows])
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
    together = _log_probabilities(model, ids, mask)
    padding = later = 0.0
    for row, log_probabilities in zip(rows, together, strict=True):
        tokens = torch.tensor([row])
        alone = _log_probabilities(model, tokens, torch.ones_like(tokens))[0]
        padding = max(padding, _distance(log_probabilities[width - len(row) :], alone))
        other = torch.cat([tokens[:, :-1], tokens[:, :1]], dim=1)
        moved = _log_probabilities(model, other, torch.ones_like(other))[0]
        later = max(later, _distance(moved[:-1], alone[:-1]))
    return {"later_token": later, "padding": padding}


def _log_probabilities(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return model(**model_inputs(model, ids, mask)).logits.float().log_softmax(-1)  # type: ignore[no-any-return]


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Largest difference; infinite where one of the two is not finite."""
    gap = float((one - other).abs().max())
    return gap if gap == gap else float("inf")


def _fits(name: str, trust_remote_code: bool) -> bool:
    """Tell whether the weights take at most half of this machine's memory in float32."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 8 * count(skeleton(name, trust_remote_code)) <= memory


def _in_a_child(name: str, trust_remote_code: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.models.behaviour", name]
    command += ["--trust-remote-code"] if trust_remote_code else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    try:
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except (ValueError, IndexError):
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        raise ValueError(f"model {name!r} cannot be loaded: {reason}") from None


def main(arguments: list[str]) -> None:
    """Print what `measure` gives for a model."""
    name, *options = arguments
    print(json.dumps(measure(*load(name, "float32", "cpu", trust_remote_code="--trust-remote-code" in options))))


if __name__ == "__main__":
    main(sys.argv[1:])
