"""The set of figures of the paper: each ablation finds its own records, and what has none is named with its command."""

from __future__ import annotations

import csv
import dataclasses
import random

import pytest
from synthetic_records import make_failed, make_record
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis.groups import make_groups
from reports.figures.studies import budget_rows, draw_samples, grouping_rows, sample_rows, shape_rows
from reports.render.paper import check_paper, compared, draw_paper, exhibits
from reports.render.write import draw
from results.store import Store

OWN = {"mean_experts": 4.0, "grouping": "attention-mlp", "mode": "paper"}


def made(method="lora-smoe", mean=4.0, samples=None, **changes):
    """A record with its own allocation; samples: of each task's probe."""
    settings = dict(changes.pop("hyperparameters", OWN | {"mean_experts": mean}))
    record = make_record(method, layers=10, hyperparameters=settings, **changes)
    noise = random.Random(f"{method}{settings}{changes}")
    blocks = [f"model.layers.{i}.mlp.{p}_proj" for i in range(10) for p in ("gate", "up", "down")]
    experts = dict.fromkeys(blocks, 0)
    for _ in range(round(mean * len(blocks))):
        experts[noise.choice(blocks)] += 1
    facts = {**record.facts, "experts": experts}
    if samples is not None:
        facts["probe_samples"] = dict.fromkeys(record.spec.tasks, samples)
    return dataclasses.replace(record, facts=facts)


@pytest.fixture(scope="module")
def group():
    records = [make_record("lora"), make_record("frozen"), made(samples=8), made("molora", hyperparameters={"r": 8})]
    records += [made(samples=n, probe_documents=n) for n in (1, 2, 4)]
    released = OWN | {"mode": "released"}
    records += [made("smoe-released", samples=10 * n, probe_documents=10 * n, hyperparameters=released) for n in (1, 2)]
    records += [made("smoe-released", samples=3, probe_documents=3, hyperparameters=released)]
    records += [made(samples=8, seed=1)]
    records += [made(mean=mean) for mean in (3.2, 6.4)]
    records += [made(f"smoe-{name}", hyperparameters=OWN | {"grouping": name}) for name in ("type", "global")]
    records += [made("mola", hyperparameters={"shape": shape}) for shape in ("inverted-triangle", "triangle")]
    (one,) = make_groups(records)
    return one


def test_the_comparison_has_one_row_a_method_and_no_ablation(group):
    main = compared(group)
    assert sorted(row.label for row in main.rows) == ["frozen", "lora", "lora-smoe", "mola", "molora"]
    (own,) = [row.done[0].spec for row in main.rows if row.method == "lora-smoe"]
    assert own.probe_documents == 8 and own.hyperparameters["mean_experts"] == 4.0
    (mola,) = [row.done[0].spec for row in main.rows if row.method == "mola"]
    assert mola.hyperparameters["shape"] == "inverted-triangle"


def test_samples_are_counted_a_layer_in_both_modes(group):
    rows = sample_rows(group)
    counts = {
        family: [r["samples_a_layer"] for r in rows if r["family"] == family]
        for family in ("lora-smoe", "smoe-released")
    }
    assert counts == {"lora-smoe": [1, 2, 4, 8], "smoe-released": [1, 1, 2]}  # no layer is left without a sample
    assert [r["documents"] for r in rows if r["family"] == "smoe-released"] == [3, 10, 20]
    texts = [text.get_text() for text in draw_samples(rows).axes[0].texts]
    assert texts == ["3 documents", "10 documents", "20 documents"]
    assert rows[3]["overlap_with_largest"] == 1.0 and rows[0]["overlap_with_largest"] < 1.0


def test_points_of_an_ablation_are_of_the_same_seeds(group):
    assert [len(row.done) for row in group.own(["lora-smoe"])] == [2]
    found = {one.stem: one for one in exhibits(group)[0]}
    for stem in ("samples", "budget", "grouping", "shape"):
        assert {r["of_seeds"] for r in found[stem].rows} == {"0"} and all(
            "--s0--" in key for key in found[stem].records
        )


def test_the_budget_is_the_share_of_blocks_that_pass(group):
    assert [round(r["passing"], 3) for r in budget_rows(group)] == [0.4, 0.5, 0.8]


def test_groupings_and_shapes_stand_beside_the_usual_lora_smoe(group):
    assert [r["grouping"] for r in grouping_rows(group)] == ["attention-mlp", "type", "global"]
    rows = shape_rows(group)
    assert {r["family"] for r in rows} == {"mola", "lora-smoe", "molora"}
    assert {r["layer"] for r in rows} == set(range(10))


def test_every_figure_is_drawn_and_names_its_records(group, tmp_path):
    (folder,) = draw_paper([group], tmp_path)
    text = (folder / "paper.md").read_text()
    found, missing = exhibits(group)
    assert not missing and len(found) == 11
    for one in found:
        assert (folder / f"{one.stem}.png").stat().st_size > 5000
        assert one.records and all(key in text for key in one.records)
        with (folder / f"{one.stem}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(one.rows)
    records = {one.stem: one.records for one in found}
    assert len(records["sensitivity-lora-smoe"]) == 1 and "--lora-smoe--" in records["sensitivity-lora-smoe"][0]
    assert not [key for key in records["experts"] if "--frozen--" in key or "--lora--" in key]


def test_the_set_is_checked_and_an_older_one_is_replaced(tmp_path):
    for record in (make_record("lora"), make_record("lora-smoe")):
        Store(tmp_path / "records").save(record)

    def run(*more):
        options = ["paper", "--records", str(tmp_path / "records"), "--out", str(tmp_path / "out"), *more]
        return CliRunner().invoke(app, options)

    assert run().exit_code == 0 and run("--check").exit_code == 0
    (folder,) = (tmp_path / "out").iterdir()
    (folder / "time.csv").write_text("edited")
    (folder / "memory.png").unlink()
    (folder / "old.csv").write_text("of an earlier set")
    checked = run("--check")
    assert checked.exit_code == 1 and checked.output.rstrip().endswith("Redraw with: python -m reports paper")
    for line in ("time.csv: differs", "memory.png: missing", "old.csv: not in a redraw"):
        assert f"{folder.name}/{line}" in checked.output
    assert run().exit_code == 0 and run("--check").exit_code == 0 and not (folder / "old.csv").exists()


@pytest.mark.parametrize("records", [[], [make_failed("lora-smoe")], [make_record("frozen", epochs=0.0)]])
def test_little_makes_an_honest_set(records, tmp_path):
    folders = draw_paper(make_groups(records), tmp_path)
    assert len(folders) == len(records)
    for folder in folders:
        text = (folder / "paper.md").read_text()
        assert "Not drawn: no record" in text
        assert "failed after load: ValueError" in text or records[0].status == "done"


def test_what_has_no_record_is_named_with_the_command_that_makes_it(tmp_path):
    (folder,) = draw_paper(make_groups([make_record("lora")]), tmp_path, images=())
    text = (folder / "paper.md").read_text()
    assert "Not drawn" in text and "budget" in text and "benchmarks.run --profile paper" in text


def test_figures_that_the_main_report_has_are_links_and_stand_in_git_once(group, tmp_path):
    (alike,) = make_groups([make_record("lora"), make_record("frozen"), made(samples=8)])
    draw([alike], tmp_path / "main", images=())
    (folder,) = draw_paper([alike], tmp_path / "paper", (), main_report="../main")
    text = (folder / "paper.md").read_text()
    assert f"![peak memory by phase](../../main/{alike.name}/memory.png)" in text
    assert f"[numbers](../../main/{alike.name}/experts.csv)" in text
    assert [file.name for file in folder.glob("*.csv")] == []  # nothing here is of the paper alone
    assert (folder / f"../../main/{alike.name}/experts.csv").is_file()
    (other,) = draw_paper([group], tmp_path / "paper", (), main_report="../main")
    assert (other / "accuracy-time.csv").is_file() and (other / "samples.csv").is_file()  # rows are left out here


def test_a_missing_picture_behind_a_link_is_seen(tmp_path):
    (alike,) = make_groups([make_record("lora"), make_record("frozen")])
    draw([alike], tmp_path / "main", images=())
    draw_paper([alike], tmp_path / "paper", (), main_report="../main")
    missing = check_paper([alike], tmp_path / "paper", images=True, main_report="../main")
    assert f"{alike.name}/../../main/{alike.name}/memory.png: missing" in missing
    assert check_paper([alike], tmp_path / "paper", images=False, main_report="../main") == []
