"""The device of a run, and what it needs to be there."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch


def device(name: str) -> str:
    """Return the device of a request, "cpu" or an accelerator's; "auto" is CUDA where that is there.

    Raises ValueError for an accelerator that this torch or this machine does not have.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    there = {"cuda": torch.cuda, "mps": torch.backends.mps, "xpu": torch.xpu}
    if name in there and not there[name].is_available():
        raise ValueError(f"device {name!r} is not available here; use --device cpu")
    return name


def check_compiler(device: str) -> None:
    """Raise ValueError where torch.compile has nothing to compile with."""
    if device == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "g++", "clang++"))):
        raise ValueError("--compile on a CPU needs a C++ compiler: install g++ or leave --compile out")
    if device == "cuda" and importlib.util.find_spec("triton") is None:
        raise ValueError("--compile on a GPU needs triton: pip install triton, or leave --compile out")
