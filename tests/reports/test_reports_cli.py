"""The command line: redraw, check, show, readme, power; figures are drawn from exactly what is in their CSV."""

from __future__ import annotations

import ast
import csv
import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest
from PIL import Image
from synthetic_records import make_failed, make_record, make_run
from typer.testing import CliRunner

import reports
from reports import roster
from reports.__main__ import app
from reports.analysis.groups import make_groups
from reports.figures import style
from reports.figures.gallery import figures
from reports.figures.heatmaps import maps, places_in_map
from reports.render import write as draw
from reports.render.files import write_figure
from results.store import Store
from results.studies.stability import Stability

NAME = "commonsense--smollm2-135m--embedded--loglik--d640-e16"


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def folder(tmp_path):
    store = Store(tmp_path / "records")
    for record in [*make_run(layers=3), make_failed("dora")]:
        store.save(record)
    return store.folder


def test_a_redraw_writes_tables_figures_and_their_numbers_and_checks_clean(folder, tmp_path):
    out = tmp_path / "out"
    result = run("--records", folder, "--out", out)
    assert result.exit_code == 0 and f"{NAME}/main.md" in result.output
    assert result.output.rstrip().endswith("out/index.html")
    files = {p.name for p in (out / NAME).iterdir()}
    stems = {p.removesuffix(".png") for p in files if p.endswith(".png")}
    wanted = {"accuracy-parameters", "memory", "time", "loss", "differences", "experts", "sensitivity-lora-smoe"}
    assert wanted <= stems
    assert all({f"{s}.png", f"{s}.csv"} <= files for s in stems)
    assert {"main.md", "main.csv", "paired.csv", "table1.tex"} <= files and (out / "index.html").exists()
    assert run("--records", folder, "--out", out, "--check").exit_code == 0

    (out / NAME / "time.csv").write_text("edited")
    (out / NAME / "extra.md").write_text("not ours")
    (out / NAME / "main.csv").unlink()
    (out / NAME / "time.png").write_bytes(b"")  # images are not compared, but have to be there
    (out / NAME / "loss.png").unlink()
    (out / NAME / "table2.tex").write_text("edited")
    result = run("--records", folder, "--out", out, "--check")
    assert result.exit_code == 1
    assert f"{NAME}/time.csv: differs" in result.output and f"{NAME}/main.csv: missing" in result.output
    assert f"{NAME}/extra.md: not in a redraw" in result.output and "time.png" not in result.output
    assert f"{NAME}/loss.png: missing" in result.output and f"{NAME}/table2.tex: differs" in result.output


@pytest.mark.parametrize("command", [(), ("paper",)])
def test_vector_figures_are_drawn_where_they_are_asked_for(command, tmp_path):
    for record in make_run(["lora", "lora-smoe"], layers=2):
        Store(tmp_path / "records").save(record)
    options = [*command, "--records", tmp_path / "records", "--out", tmp_path / "out"]
    assert run(*options).exit_code == 0 and not list((tmp_path / "out").rglob("*.svg"))
    assert run(*options, "--vector").exit_code == 0
    drawn = sorted((tmp_path / "out" / NAME).glob("*.svg"))
    assert [f.with_suffix(".png") for f in drawn] == sorted((tmp_path / "out" / NAME).glob("*.png")) and drawn
    assert "<svg" in drawn[0].read_text() and "<dc:date>" not in drawn[0].read_text()
    before = {f.name: f.read_bytes() for f in drawn}
    assert run(*options, "--check").exit_code == 0 and run(*options, "--vector").exit_code == 0
    assert {f.name: f.read_bytes() for f in drawn} == before


def test_pictures_have_a_palette_unless_a_colour_scale_is_continuous(tmp_path):
    (group,) = make_groups(make_run(["lora", "lora-smoe"], layers=2))
    drawn = {**figures(group), **maps(group)}
    for stem, mode in (("time", "P"), ("experts", "P"), ("sensitivity-lora-smoe", "RGB"), ("tasks", "RGB")):
        write_figure(tmp_path, stem, *drawn[stem], ("png",))
        assert Image.open(tmp_path / f"{stem}.png").mode == mode


@pytest.mark.parametrize("studies", ["studies", "../studies"])
def test_measurements_that_are_no_records_are_drawn_in_or_beside_the_report_and_checked(studies, tmp_path):
    one = Stability(
        suite="commonsense", source="embedded", model="tiny", dtype="float32", method="lora-smoe", hyperparameters={},
        max_length=256, allocations={(s, n): {"a.0.q": s + n, "a.1.q": 2} for s in (0, 1) for n in (1, 2)},
        seconds={(s, n): 0.5 for s in (0, 1) for n in (1, 2)}, environment={"git_commit": "c0ffee"},
    )  # fmt: skip
    out = tmp_path / "main"
    draw.draw([], out, (), (), None, [one], studies)
    assert (out / studies / "stability.md").is_file() and f"({studies}/stability.md)" in (out / "README.md").read_text()
    assert draw.check([], out, (), None, [one], False, studies) == []
    (out / studies / "stability.csv").write_text("edited")
    assert draw.check([], out, (), None, [one], False, studies) == [f"{studies}/stability.csv: differs"]


def test_two_redraws_give_equal_bytes_images_included(tmp_path):
    (group,) = make_groups(make_run(["lora", "lora-smoe"], layers=2))
    (_, (_, draw_it)), *_ = figures(group).items()
    for name in "ab":
        with matplotlib.rc_context(style.RC):
            draw_it().savefig(tmp_path / f"{name}.svg", metadata={"Date": None})
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize(
    "records",
    [
        [],
        [make_failed("lora")],
        [make_record("lora", layers=1)],
        [make_record("frozen", layers=1, epochs=0.0)],
        [make_record("adalora", layers=1, count=1), make_failed("lora")],
        [make_record("lora-smoe", layers=1, tasks=("boolq",))],
    ],
    ids=["empty", "failed", "single", "frozen", "one-document", "one-task"],
)
def test_little_is_drawn_honestly(records, tmp_path):
    groups = make_groups(records)
    draw.draw(groups, tmp_path / "out", images=())
    for group in groups:
        for _, draw_it in {**figures(group), **maps(group)}.values():
            draw_it().draw_without_rendering()
    text = "".join(p.read_text() for p in sorted((tmp_path / "out").rglob("*.md")))
    assert "There is no record yet" in text if not records else records[0].spec.method in text
    assert draw.check(groups, tmp_path / "out", images=False) == []


def test_figures_hold_the_numbers_of_the_records(folder, tmp_path):
    run("--records", folder, "--out", tmp_path / "out", "--no-images")
    records = {r.spec.method: r for r in Store(folder).all()}
    with open(tmp_path / "out" / NAME / "experts.csv") as file:
        rows = [r for r in csv.DictReader(file) if r["method"] == "lora-smoe"]
    assert {r["block"]: int(r["experts"]) for r in rows} == records["lora-smoe"].facts["experts"]
    with open(tmp_path / "out" / NAME / "sensitivity-lora-smoe.csv") as file:
        found = {(r["task"], r["block"]): float(r["sensitivity"]) for r in csv.DictReader(file)}
    for (task, block), value in found.items():
        assert value == pytest.approx(records["lora-smoe"].facts["sensitivity"][task][block], rel=1e-5)
    with open(tmp_path / "out" / NAME / "time.csv") as file:
        seconds = {(r["method"], r["phase"]): float(r["wall_seconds"]) for r in csv.DictReader(file)}
    assert seconds["adalora", "train"] == pytest.approx(records["adalora"].costs["train"].wall_seconds, rel=1e-5)


def test_ranks_of_a_rank_allocator_are_drawn_beside_the_experts():
    record = make_record("adalora", layers=2)
    ranks = {block: i % 5 for i, block in enumerate(make_record("molora", layers=2).facts["experts"])}
    (group,) = make_groups([dataclasses.replace(record, facts={"ranks": ranks}), make_record("molora", layers=2)])
    rows, draw_it = maps(group)["ranks"]
    assert {r["block"]: r["ranks"] for r in rows} == ranks and {r["method"] for r in rows} == {"adalora"}
    assert len(draw_it().axes) == 2  # one panel and the colour bar
    assert {r["method"] for r in maps(group)["experts"][0]} == {"molora"}


def test_blocks_are_read_from_their_names():
    places = {
        "model.layers.29.mlp.down_proj": (29, "down"), "transformer.h.3.attn.c_attn": (3, "c_attn"),
        "lm_head": (-1, "lm_head"), "transformer.h.3.attn.c_proj": (3, "attn.c_proj"),
        "transformer.h.3.mlp.c_proj": (3, "mlp.c_proj"),
    }  # fmt: skip
    assert places_in_map(places) == places


def test_many_methods_can_be_drawn():
    (group,) = make_groups(
        [*make_run([*roster.names(), "something-new"], layers=2, count=8), make_record("lora", 1, count=8)]
    )
    for _, draw_it in {**figures(group), **maps(group)}.values():
        assert draw_it().axes


def test_every_method_has_one_look_everywhere_and_no_two_known_ones_share_it():
    found = [tuple(map(str, roster.look(name).values()))[:2] for name in roster.names()]
    assert len(set(found)) == len(roster.names())
    assert roster.look("something-new") == roster.look("something-new")
    two = style.looks([("lora (r=8)", "lora"), ("lora (r=16)", "lora")])
    assert two["lora (r=8)"]["color"] == two["lora (r=16)"]["color"]
    assert two["lora (r=8)"]["marker"] != two["lora (r=16)"]["marker"]


def test_mixed_records_are_refused_with_status_two_and_split_on_request(folder, tmp_path):
    Store(folder).save(make_record("mola", layers=1, dtype="float32"))
    result = run("--records", folder, "--out", tmp_path / "out")
    assert result.exit_code == 2 and "dtype" in result.output and not (tmp_path / "out").exists()
    split = run("--records", folder, "--out", tmp_path / "out", "--split-by", "dtype", "--no-images")
    with pytest.warns(UserWarning, match="dtype differ"):
        auto = run("--records", folder, "--out", tmp_path / "out", "--auto-split", "--no-images")
    assert split.exit_code == auto.exit_code == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "README.md",
        "index.html",
        f"{NAME}--dtype-bfloat16",
        f"{NAME}--dtype-float32",
    }


@pytest.mark.parametrize(
    "arguments",
    [("--records", "nowhere"), ("--columns", "x"), ("--split-by", "x"), ("power", "--difference", 0), ("readme",)],
)
def test_bad_requests_end_with_status_two(folder, tmp_path, arguments):
    extra = () if arguments[0] in ("--records", "power", "readme") else ("--records", folder)
    out = () if arguments[0] in ("power", "readme") else ("--out", tmp_path / "out")
    result = run(*extra, *out, *arguments)
    assert result.exit_code == 2 and result.output.strip()


def test_show_prints_the_asked_records_in_a_pipe_without_folding(folder, tmp_path):
    keys = [r.key for r in Store(folder).all() if r.spec.method in ("lora", "dora")]
    (tmp_path / "keys.json").write_text(json.dumps([*keys, "missing"]))
    for arguments in (["--keys", ",".join(keys)], ["--keys-from", str(tmp_path / "keys.json")]):
        command = [sys.executable, "-m", "reports", "show", "--records", str(folder), *arguments]
        done = subprocess.run(command, cwd=Path(reports.__file__).parent.parent, capture_output=True, text=True)
        assert done.returncode == (2 if "--keys-from" in arguments else 0), done.stderr
        assert (
            "openbookqa" in done.stdout
            and "dora: failed" in done.stdout
            and "molora" not in done.stdout.split("How small")[0]
        )
        assert "\x1b" not in done.stdout
    assert "no record of missing" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", "--records", "nowhere"), ("show", "--keys", "missing"), ("show", "--keys", ""), ("--columns", ""),
        ("--columns", " , "), ("cost", "--records", "nowhere"),
    ],
)  # fmt: skip
def test_what_does_not_exist_or_is_empty_ends_with_status_two_and_is_named(arguments, tmp_path):
    out = () if arguments[0] == "show" else ("--out", tmp_path / "out")
    result = run(*arguments, *out)
    assert result.exit_code == 2 and not (tmp_path / "out").exists()
    assert any(word in result.stderr for word in ("nowhere", "no record of missing", "empty"))


@pytest.mark.parametrize(
    "arguments",
    [
        ("--difference", "1e-300"), ("--difference", "1e-9"), ("--seed-deviation", "1e300"),
        ("--seed-deviation", "inf"), ("--seed-deviation", "nan"), ("--alpha", "1e-320"), ("--power", "1e-12"),
        ("--difference", "1e-160", "--discordance", "1e-150"), ("--difference", "nan"),
    ],
)  # fmt: skip
def test_an_extreme_request_of_power_is_refused_in_one_line(arguments):
    result = run("power", *arguments)
    assert result.exit_code == 2 and len(result.stderr.splitlines()) == 1 and isinstance(result.exception, SystemExit)


def test_readme_changes_only_between_its_markers(folder, tmp_path):
    file = tmp_path / "README.md"
    before, after = "# Title\n\n<!-- results:begin -->\n", "<!-- results:end -->\n\nrest | <b>\n"
    file.write_text(before + "old\n" + after)
    options = ("readme", "--file", file, "--records", folder)
    assert run(*options, "--check").exit_code == 1
    assert file.read_text() == before + "old\n" + after
    assert run(*options, "--write").exit_code == 0
    text = file.read_text()
    assert text.startswith(before) and text.endswith(after) and "| lora-smoe |" in text and "dora: failed" in text
    assert run(*options, "--check").exit_code == 0 and run(*options, "--write").exit_code == 0
    assert file.read_text() == text


def test_readme_without_markers_or_with_an_unknown_group_is_refused(folder, tmp_path):
    file = tmp_path / "README.md"
    file.write_text("nothing")
    assert run("readme", "--write", "--file", file, "--records", folder).exit_code == 2
    assert file.read_text() == "nothing"
    file.write_text("<!-- results:begin commonsense -->\n<!-- results:end -->\n")
    result = run("readme", "--write", "--file", file, "--records", folder)
    assert result.exit_code == 2 and NAME in result.output
    result = run("readme", "--write", "--file", tmp_path / "missing.md", "--records", folder)
    assert result.exit_code == 2


def test_the_smallest_training_size_is_the_readme_table(tmp_path):
    from reports.render.readme import choose

    groups = make_groups([make_record("lora"), make_record("lora", train_documents=4000)])
    assert choose(groups, None).name == NAME and choose([], None) is None


def test_power_prints_documents_and_seeds():
    result = run("power", "--difference", 0.5)
    assert result.exit_code == 0 and "47,086 documents" in result.output and "41 seeds" in result.output


@pytest.mark.parametrize(("seeds", "needed"), [((0, 1), True), ((0,), False)])
def test_power_of_records_says_what_each_measure_could_show_and_what_its_margin_needs(seeds, needed, tmp_path):
    for record in make_run(["lora", "molora"], seeds, layers=1):
        Store(tmp_path).save(record)
    shown = run("power", "--records", tmp_path).output
    found, _, plan = shown.partition("Documents that a difference of the margin needs")
    assert "Accuracy" in found and "Loss before training" in found and bool(plan) is needed
    if needed:
        (line,) = (line for line in plan.splitlines() if "Accuracy" in line)
        two, _, _, ten = (math.inf if w == "never" else int(w.replace(",", "")) for w in line.split()[-4:])
        assert line.split()[3] == "1.5" and ten <= two


def test_reports_import_neither_torch_nor_what_runs_jobs():
    code = "import sys, reports.__main__, reports.render.write, reports.render.readme; print(sorted(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(Path(reports.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    loaded = {name.split(".")[0] for name in ast.literal_eval(done.stdout)}
    assert loaded.isdisjoint({"torch", "transformers", "peft", "lm_eval", "benchmarks", "baselines", "smoe"})


@pytest.mark.parametrize("command", [(), ("paper",)])
def test_other_records_are_not_drawn_over_the_committed_report(command, folder):
    found = run(*command, "--records", folder)
    assert found.exit_code == 2 and "--out" in found.output
