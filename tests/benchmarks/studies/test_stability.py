"""`python -m benchmarks.studies.stability` on a tiny model: what it keeps, does not do twice, what it refuses."""

from __future__ import annotations

import re

import datasets
import pytest
from typer.testing import CliRunner

from baselines.methods.lora_smoe import LoraSMoE
from benchmarks.data import hub, sources
from benchmarks.studies import stability
from results.studies.stability import Stability

TASKS = 5  # of suite nlu
POINTS = [(0, 1), (0, 2), (1, 1), (1, 2)]  # (seed, samples a task)


@pytest.fixture(scope="module")
def splits():
    """A few documents of each task, read once."""
    found = sources.splits("embedded", ("sst2", "rte", "mrpc", "cb", "copa"))
    return {
        task: datasets.DatasetDict({name: part.select(range(6)) for name, part in split.items()})
        for task, split in found.items()
    }


@pytest.fixture
def allocated(monkeypatch, splits):
    """The size of every probe that is allocated from; `stop` of them after which Ctrl-C is pressed."""

    class Allocated(list):
        stop: int | None = None

    sizes = Allocated()
    allocate = LoraSMoE.allocate

    def counted(self, model, probe):
        if len(sizes) == sizes.stop:
            raise KeyboardInterrupt
        assert len(probe) == TASKS
        (size,) = {len(batches) for batches in probe.values()}
        sizes.append(size)
        return allocate(self, model, probe)

    monkeypatch.setattr(LoraSMoE, "allocate", counted)
    monkeypatch.setattr(sources, "splits", lambda *_, **__: splits)
    return sizes


def run(out, *options):
    settings = "--model tiny --dtype float32 --suite nlu --samples 1,2 --seeds 0,1 --methods lora-smoe".split()
    return CliRunner().invoke(stability.app, [*settings, "--out", str(out), *options])


def kept(out):
    (file,) = out.glob("*.json")
    return Stability.load(file)


def test_every_size_and_draw_leaves_its_allocation_and_a_second_call_computes_nothing(tmp_path, allocated):
    assert run(tmp_path).exit_code == 0 and allocated == [1, 2, 1, 2]
    found = kept(tmp_path)
    assert sorted(found.allocations) == sorted(found.seconds) == POINTS
    assert {sum(experts.values()) for experts in found.allocations.values()} == {4 * 14}  # the default budget
    again = run(tmp_path)
    assert again.exit_code == 0 and "4 allocations" in again.output
    assert len(allocated) == 4 and kept(tmp_path) == found
    assert run(tmp_path, "--seeds", "0-2").exit_code == 0
    assert allocated[4:] == [1, 2] and len(kept(tmp_path).allocations) == 6


def test_the_question_and_the_cost_are_told_before_anything_is_allocated(tmp_path, allocated):
    told = run(tmp_path, "--dry-run")
    assert told.exit_code == 0 and not allocated and not list(tmp_path.iterdir())
    for word in ("Question:", "Design:", "Yes:", "No:", "Undecided:", "Allocations: 4, of which 4 are left; cost: not"):
        assert word in told.output
    assert run(tmp_path, "--seeds", "0").exit_code == 0
    told = run(tmp_path, "--dry-run")
    assert re.search(r"Allocations: 4, of which 2 are left; cost: about \d\.\d\d hours for 2 of them", told.output)


def test_an_interrupted_measurement_goes_on_where_it_stopped(tmp_path, allocated):
    allocated.stop = 3
    stopped = run(tmp_path / "stopped")
    assert stopped.exit_code == 130 and "the same command goes on" in stopped.output
    assert sorted(kept(tmp_path / "stopped").allocations) == POINTS[:3]
    allocated.stop = None
    assert run(tmp_path / "stopped").exit_code == 0 and len(allocated) == 4
    assert run(tmp_path / "whole").exit_code == 0
    assert kept(tmp_path / "stopped").allocations == kept(tmp_path / "whole").allocations


def test_allocations_from_other_code_or_other_data_are_computed_anew(tmp_path, allocated, splits, monkeypatch):
    state, read = {"code": "a", "newest": "01"}, []
    monkeypatch.delenv(hub.COPIES, raising=False)
    monkeypatch.setattr(hub, "_newest", lambda path, branch: state["newest"])
    monkeypatch.setattr(stability, "environment", lambda: {"git_commit": state["code"]})
    monkeypatch.setattr(sources, "splits", lambda *_, revisions: read.append(revisions) or splits)

    def computed(*options):
        """How many allocations another call computes; the commits that it read are those in its file."""
        before = len(allocated)
        done = run(tmp_path, "--source", "hub", "--samples", "1", "--seeds", "0", *options)
        assert done.exit_code == 0, done.output
        assert kept(tmp_path).environment["revisions"] == read[-1]
        return len(allocated) - before

    assert (computed(), computed()) == (1, 0)
    state["code"] = "b"
    assert computed() == 1
    state["newest"] = "02"
    assert computed() == 1
    assert read[-1] == {"aps/super_glue": "02", "nyu-mll/glue": "02"}
    assert computed("--revision", "nyu-mll/glue=cafe123") == 1
    assert read[-1] == {"aps/super_glue": "02", "nyu-mll/glue": "cafe123"}


def test_a_method_that_is_no_allocator_is_refused_with_those_that_are(tmp_path):
    refused = run(tmp_path, "--methods", "lora-smoe,lora")
    assert refused.exit_code == 2 and not list(tmp_path.iterdir())
    assert "lora is no allocator; allocators: alphalora, eva-experts, eva-lora, experts, fim-lora" in refused.output


def test_a_file_without_revisions_is_gone_on_with(tmp_path, allocated, monkeypatch):
    """As every file was before there were any."""
    monkeypatch.setattr(stability, "environment", lambda: {"git_commit": "a"})
    assert run(tmp_path, "--seeds", "0").exit_code == 0
    found = kept(tmp_path)
    del found.environment["revisions"]
    found.save(tmp_path)
    assert run(tmp_path, "--seeds", "0").exit_code == 0 and len(allocated) == 2


def test_an_answer_that_is_too_long_is_refused_before_anything_is_allocated(tmp_path, allocated):
    refused = run(tmp_path, "--max-length", "2")
    assert refused.exit_code == 2 and allocated == [] and not list(tmp_path.glob("*.json"))
