"""A device, and a compiler for it, is refused before any job where the machine has none."""

from __future__ import annotations

import pytest
import torch

from benchmarks.plan.device import check_compiler, device


def test_a_machine_without_a_compiler_refuses_to_compile(monkeypatch):
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs a C\\+\\+ compiler: install g\\+\\+ or leave --compile out"):
        check_compiler("cpu")
    with pytest.raises(ValueError, match="needs triton"):
        check_compiler("cuda")


def test_cuda_is_taken_where_it_is_there_and_refused_where_it_is_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (device("auto"), device("cuda"), device("cpu")) == ("cuda", "cuda", "cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device("auto") == "cpu"
    with pytest.raises(ValueError, match="'cuda' is not available here; use --device cpu"):
        device("cuda")


@pytest.mark.parametrize("name", ["mps", "xpu"])
def test_other_accelerators_are_taken_where_torch_has_them(monkeypatch, name):
    module = {"mps": torch.backends.mps, "xpu": torch.xpu}[name]
    monkeypatch.setattr(module, "is_available", lambda: True)
    assert device(name) == name
    monkeypatch.setattr(module, "is_available", lambda: False)
    with pytest.raises(ValueError, match=f"'{name}' is not available here; use --device cpu"):
        device(name)
