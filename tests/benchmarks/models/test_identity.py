"""A model is its content, however its folder is called or written."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest
import torch
from families import family
from synthetic_records import make_run
from tokenisers import tokeniser

from benchmarks import registry
from benchmarks.models import identity
from benchmarks.models import load as models
from benchmarks.plan.request import Request
from benchmarks.plan.resolve import resolve
from reports.analysis.groups import make_groups
from smoe import sensitivity


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Two folders called "final" of different weights."""
    root = tmp_path_factory.mktemp("models")
    for name, seed in (("a", 0), ("b", 1)):
        family("llama", seed).save_pretrained(root / name / "final")
        tokeniser(before=True).save_pretrained(root / name / "final")
    return root


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_CACHE", str(tmp_path / "cache"))


def planned(model, **options):
    return resolve(Request(model=str(model), methods="frozen", device="cpu", dtype="float32", **options))[0]


def test_three_spellings_of_a_folder_are_one_model(saved, monkeypatch, tmp_path):
    monkeypatch.chdir(saved / "a")
    (tmp_path / "link").symlink_to(saved / "a" / "final")
    spellings = (saved / "a" / "final", "./final", f"{saved}/a/../a/final/", tmp_path / "link")
    specs = [planned(name) for name in spellings]
    assert len({spec.key for spec in specs}) == 1 == len({spec.model for spec in specs})
    assert all(spec.model_content for spec in specs)


def test_two_folders_of_one_name_are_two_models_in_keys_and_tables(saved):
    first, second = (planned(saved / name / "final") for name in "ab")
    assert first.key != second.key and first.model_content != second.model_content
    records = [replace(r, spec=replace(r.spec, model=s.model, model_content=s.model_content))
               for r, s in zip(make_run(("lora", "molora")), (first, second), strict=True)]  # fmt: skip
    assert [len(g.rows) for g in make_groups(records)] == [1, 1]


def test_a_folder_that_moved_is_the_same_model_and_one_that_changed_another(saved, tmp_path):
    here = tmp_path / "elsewhere" / "final"
    shutil.copytree(saved / "a" / "final", here)
    before = planned(here)
    assert before.key == planned(saved / "a" / "final").key
    for change in (
        lambda: (here / "README.md").write_text("no part of the model"),
        lambda: family("llama", 7).save_pretrained(here),
        lambda: (here / "config.json").write_text((here / "config.json").read_text().replace("1e-06", "1e-05")),
        lambda: tokeniser().save_pretrained(here),
    ):
        change()
        now = planned(here)
        if (here / "README.md").is_file() and now.model_content == before.model_content:
            continue
        assert now.key != before.key
        with pytest.raises(ValueError, match="changed after the run was planned"):
            identity.check_unchanged(str(here), before.model_content)
        before = now
    assert planned(here).model_content != planned(saved / "a" / "final").model_content


def test_hashes_of_large_files_are_kept_until_the_file_changes(saved, monkeypatch):
    counted = []
    real = identity.sha256
    monkeypatch.setattr(identity, "sha256", lambda path: counted.append(path.name) or real(path))
    first = identity.content(str(saved / "a" / "final"))
    assert "model.safetensors" in counted
    counted.clear()
    assert identity.content(str(saved / "a" / "final")) == first and counted == []
    weights = saved / "a" / "final" / "model.safetensors"
    weights.touch()
    assert identity.content(str(saved / "a" / "final")) == first and counted == ["model.safetensors"]


def test_names_of_this_repository_have_no_content_and_keep_their_keys():
    assert identity.content("tiny") is identity.content("random:llama") is identity.content("smollm2-135m") is None
    assert planned("tiny").model_content is None and planned("tiny").model == "tiny"
    assert identity.content("nobody/no-such-model") is None  # offline


def test_weights_that_lack_and_a_folder_without_tokeniser_are_refused_with_the_way_out(saved, tmp_path):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "cut"
    shutil.copytree(saved / "a" / "final", folder)
    kept = {k: v for k, v in load_file(folder / "model.safetensors").items() if "layers.1." not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lack \d+ weights, such as model\.layers\.1\..*would be random"):
        models.load(str(folder), "float32", "cpu")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(ValueError, match=r"has no tokenizer that can be read.*save_pretrained"):
        models.load_tokenizer(str(folder), family("llama"))


METHOD = """
from typing import ClassVar
from pydantic.dataclasses import dataclass
from baselines.method import Method

@dataclass(frozen=True, kw_only=True)
class Mine(Method):
    name: ClassVar[str] = "mine-{n}"
    summary: ClassVar[str] = "a contestant"
    source: ClassVar[str] = "-"
    trains: ClassVar[bool] = False

    def attach(self, model, probe, total_steps):
        return model  # {comment}
"""


def test_the_file_of_a_contestant_from_outside_is_in_its_key(monkeypatch, tmp_path):
    keys = []
    for n, comment in enumerate(("one", "two")):
        folder = tmp_path / str(n)
        folder.mkdir()
        (folder / "mine.py").write_text(METHOD.format(n=0, comment=comment))
        monkeypatch.setenv("SMOE_METHODS", str(folder))
        (spec,) = resolve(Request(model="tiny", methods="mine-0", device="cpu"))
        assert spec.method_content == registry.content("mine-0")
        keys.append(spec.key)
    assert keys[0] != keys[1] and registry.content("lora") is None


def test_an_unfinished_sensitivity_of_other_weights_is_refused():
    x = torch.arange(8)[None]
    probe = {name: [{"input_ids": x + k, "labels": x + k}] for name, k in (("a", 0), ("b", 9))}
    unfinished = []
    sensitivity(family("llama", 0), probe, after_task=unfinished.append)
    with pytest.raises(ValueError, match="of another pass: weights differ"):
        sensitivity(family("llama", 1), probe, resume=unfinished[0])
    again = sensitivity(family("llama", 0), probe, resume=unfinished[0])
    assert again.metadata["weights"] == unfinished[0].metadata["weights"]
