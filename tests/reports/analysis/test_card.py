"""What is read from the files of a GPU pass, and how it is judged."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.costs.card import read
from reports.options import CARD
from reports.render.costs.card import draw_card, ratios_table, readme_block
from reports.render.readme import with_card

WHERE = {
    "device_name": "a card",
    "git_commit": "c" * 40,
    "versions": dict.fromkeys(("torch", "transformers", "peft"), "1"),
}


def entry(method, milliseconds, gigabytes, busy=None):
    cost = {"wall_seconds": milliseconds / 1000, "tokens": 4096, "peak_allocated_bytes": int(gigabytes * 1e9),
            "peak_resident_bytes": None, "profile": {"busy_ms": busy, "kernels": 100}}  # fmt: skip
    allocate = {"wall_seconds": 3.0, "peak_allocated_bytes": int(8e9)}
    return {"model": "random:Shape", "method": method, "trainable_params": 10**7, "allocate": allocate, "error": None,
            "steps": {"16": cost, "32": {"error": "out of memory"}}}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    entries = [entry("lora-own", 100, 20, 80), entry("lora-smoe", 120, 19, 60), entry("lora", 150, 30)]
    entries.append({**entry("adalora", 1, 1), "error": "the process ended", "steps": {}})
    row = {"name": "layer", "value": 2.0, "low": 1.9, "high": 2.1, "bound": 3, "direction": "at least", "detail": ""}
    bodies = {
        "shapes": {"shapes.json": {"environment": WHERE, "entries": entries, "ratios": [], "compiled": []}},
        "speed": {
            "layer/speed.json": {"environment": WHERE, "ratios": [row], "tables": [{"rows": [["copy", "3 TB/s"]]}]}
        },
    }
    for name, results in bodies.items():
        step = {"status": "done", "seconds": 60.0, "commands": [{"said": []}], "results": results}
        (tmp_path / f"{name}.json").write_text(json.dumps(step))
    return tmp_path


def test_steps_are_divided_and_held_to_their_targets(folder):
    found = read(folder)
    rows = {r.name: (round(r.value, 3), r.met) for r in found.ratios}
    same = "step of LoRA-SMoE / LoRA in the same layer"
    assert rows[f"{same}: time"] == (1.2, False) and rows[f"{same}: peak memory"] == (0.95, True)
    assert rows[f"{same}: time the device is busy"] == (0.75, None)
    assert rows["step of LoRA-SMoE / PEFT's LoRA: time"] == (0.8, None)
    over = "allocation / step of LoRA in the same layer"
    assert rows[f"{over}, 100 of them: time"] == (0.3, True) and rows[f"{over}: peak memory"] == (0.4, True)
    assert rows["layer"] == (2.0, False)  # at least 3
    assert "busy" not in " ".join(name for name in rows if "PEFT" in name)  # nobody knows how long PEFT's was
    assert [row[4] for row in ratios_table(found).rows].count("missed") == 2
    assert found.limits == (("copy", "3 TB/s"),) and found.statuses["speed"] == ("done", 1.0)


def test_the_page_the_block_of_the_readme_and_a_check(folder, tmp_path):
    out = tmp_path / "drawn"
    draw_card(read(folder), out)
    page = (out / "card.md").read_text()
    assert "a card" in page and "cccccccccccc" in page and "| lora-smoe | Shape | 16 x 256 | 120 | 60 |" in page
    assert (out / "steps.png").stat().st_size > 10_000
    block = readme_block(read(folder))
    assert "| lora-own | 100 | 80 | 100 | 20.0 | 3.0 |" in block and "adalora" not in block
    text = "a\n<!-- card:begin -->\nold\n<!-- card:end -->\nb\n"
    assert with_card(text, block).startswith("a\n<!-- card:begin -->\n\nOn one a card, Shape")
    assert with_card("no markers", block) == "no markers"
    arguments = ["card", "--pass", str(folder), "--out", str(out), "--check"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    (out / "card.md").write_text(page.replace("| 120 |", "| 12 |"))
    assert CliRunner().invoke(app, arguments).exit_code == 1


def test_what_is_no_pass_is_refused(folder, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refusals = {None: "holds no step of a GPU pass", "{": "speed.json is no JSON", "[]": "holds no GPU pass"}
    for text, said in refusals.items():
        if text is not None:
            (empty / "speed.json").write_text(text)
        result = CliRunner().invoke(app, ["card", "--pass", str(empty), "--out", str(tmp_path / "out")])
        assert result.exit_code == 2 and said in result.output and result.output.startswith("error: ")


def test_the_committed_pass_is_of_a_card_and_a_clean_commit():
    found = read(CARD)
    assert "H100" in found.card and len(found.commit) == 40
    assert found.tests.startswith("16 passed") and all(r.environment["git_dirty"] is False for r in found.records)
