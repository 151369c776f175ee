"""A folder of PEFT's is a contestant by its content."""

from __future__ import annotations

import json

import pytest

from benchmarks.plan.generic import all_of, published_rates
from benchmarks.plan.parse import parse_methods
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve


@pytest.fixture
def folder(tmp_path):
    def make(name, training=None, **values):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"peft_version": "0.9", **values}))
        if training:
            (tmp_path / name / "training_params.json").write_text(json.dumps(training))
        return tmp_path / name

    return make


def test_a_folder_is_its_content_and_not_its_path(folder):
    values = {"peft_type": "LORA", "r": 32, "lora_alpha": 64, "base_model_name_or_path": "x", "modules_to_save": None}
    one, two = (parse_methods(f"peft:folder={folder(name, **values)}:targets=suite")[0] for name in "ab")
    assert one == two == parse_methods("peft:type=LORA:r=32:lora_alpha=64")[0]
    assert one.hyperparameters() == {"targets": "suite", "r": 32, "lora_alpha": 64}


def test_a_folder_of_folders_gives_contestants_at_their_published_rates(folder):
    folder("c", {"optimizer_kwargs": {"lr": 0.3}}, peft_type="C3A", block_size=8)
    place = folder("d", peft_type="IA3").parent
    assert [m.name for m in all_of(str(place))] == ["peft:C3A", "peft:IA3"]
    assert list(published_rates(str(place)).values()) == [0.3]
    request = Request(methods_from=str(place), published_lr=True, model="tiny", suite="commonsense", seeds="0")
    specs = resolve(request)
    assert [(s.method, s.learning_rate) for s in specs] == [("peft:C3A", 0.3), ("peft:IA3", 5e-4)]
    assert not any(str(place) in json.dumps(s.to_json()) for s in specs)


def test_an_optimiser_that_is_not_here_is_refused_by_name(folder):
    place = folder("e", {"optimizer_type": "lora-fa"}, peft_type="LORA")
    with pytest.raises(ValueError, match="lora-fa"):
        parse_methods(f"peft:folder={place}")


def test_a_field_of_another_version_is_refused_with_both_versions(folder):
    place = folder("f", peft_type="LORA", new_field=3)
    with pytest.raises(ValueError, match=r"new_field.*is installed, not 0\.9"):
        parse_methods(f"peft:folder={place}")
