"""Peak memory of a training step, a sensitivity pass or an evaluation, each in a process of its own.

`python -m benchmarks.speed.memory WHAT FILE` loads the model and its inputs, runs, and prints the peak in JSON:
resident bytes on a CPU, allocated ones on a GPU.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from baselines.method import Method
from baselines.methods.lora import Lora
from benchmarks.jobs.meter import measure, own_peak, release, reset_resident_peak
from benchmarks.speed.setting import SCORERS, Allocated, Setting, answer, matched_lora, steps
from results.private import ROOT
from smoe import sensitivity

WHAT = ("lora", "lora-smoe", "sensitivity")
STEPS = 3  # the optimiser's state is there from the first on


def peaks(setting: Setting, which: Sequence[str] = WHAT) -> dict[str, tuple[int, int]]:
    """(peak bytes, those above the loaded model) of each on one and the same batch."""
    batch, tokens = setting.training_batches(1)[0]
    inputs = {"batch": batch, "tokens": tokens, "experts": setting.experts, "rank": matched_lora(setting).r}
    return measured(setting, inputs, which)


def measured(setting: Setting, inputs: Mapping[str, Any], which: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(peak bytes, those above the loaded model) of each of `which` on the inputs."""
    told = in_processes("benchmarks.speed.memory", setting, inputs, which)
    return {what: (peak, above) for what, (peak, above) in told.items()}


def in_processes(module: str, setting: Setting, inputs: Mapping[str, Any], which: Sequence[str]) -> dict[str, Any]:
    """Run `python -m MODULE WHAT FILE` for each of `which`; returns the JSON that each prints last.

    The file holds the inputs and what of the setting tells the model. On a CPU they take turns; a GPU's allocator tells
    each process what is its own, so that there they run at once.
    """
    inputs = {**inputs, "model": setting.model, "dtype": setting.dtype, "device": setting.device}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "inputs.pt"
        torch.save(inputs, file)
        command = [sys.executable, "-m", module]
        at_once = len(which) if setting.device == "cuda" else 1
        with ThreadPoolExecutor(max(at_once, 1)) as pool:
            done = pool.map(lambda what: _said([*command, what, str(file)]), which)
    return dict(zip(which, done, strict=True))


def _said(command: Sequence[str]) -> Any:
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak(what: str, file: str) -> tuple[int, int]:
    """Run one of them in this process."""
    inputs = torch.load(file, weights_only=True)
    setting = Setting(**{name: inputs[name] for name in ("model", "dtype", "device")})
    model = setting.load()
    cuda = setting.device == "cuda"
    release()
    reset_resident_peak()
    before = torch.cuda.memory_allocated() if cuda else own_peak()
    with measure(setting.device) as meter:
        if what in SCORERS:
            answer(setting, model, inputs["requests"], what)
        elif what == "sensitivity":
            sensitivity(model, {"task": [inputs["batch"]]})
        else:
            method: Method = Lora(r=inputs["rank"], alpha=2 * inputs["rank"])
            if what == "lora-smoe":
                method = Allocated(experts=inputs["experts"])
            steps(method.attach(model, {}, STEPS), method, [(inputs["batch"], inputs["tokens"])] * STEPS)
    assert meter.cost is not None
    highest = meter.cost.peak_allocated_bytes if cuda else meter.cost.peak_resident_bytes
    if highest is None or before is None:
        raise RuntimeError("this platform does not tell how much memory a process had")
    return highest, highest - before


if __name__ == "__main__":
    print(json.dumps(peak(*sys.argv[1:])))
