"""`python -m smoe` end to end on a tiny local model, and the example script."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
import transformers as tf
from typer.testing import CliRunner

from smoe import Sensitivity, load_flat
from smoe.__main__ import app, draw, main, read_lines, tokenised
from smoe.heatmap import grid_of

ROOT = Path(__file__).parents[2]


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "samples.jsonl"
    rows = [{"task": t, "prompt": f"Is {i} {t}?", "answer": " yes" * (i % 3 + 1)} for t in ("odd", "big") for i in range(5)]  # fmt: skip  # noqa: E501
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def run(*arguments) -> str:
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_scores_experts_and_heat_maps_from_the_command_line(model_folder, data, tmp_path):
    scores, experts, png = (tmp_path / name for name in ("scores.json", "experts.json", "map.png"))
    run("sensitivity", model_folder, data, "--out", scores, "--samples", 3, "--batch-size", 2, "--device", "cpu")
    measured = Sensitivity.load(scores)
    assert measured.samples == {"odd": 3, "big": 3} and measured.metadata["seed"] == 0
    assert len(measured.scores["odd"]) == 14
    assert not (tmp_path / "scores.json.part").exists()
    run("allocate", scores, "--total", 14, "--out", experts)
    assert sum(load_flat(experts).values()) == 14
    run("allocate", scores, "--params", 3000, "--rule", "proportional", "--r", 2, "--out", experts)
    shown = run("show", experts, "--png", png)
    assert "q" in shown and shown.count("\n") >= 4
    assert png.read_bytes()[:4] == b"\x89PNG"
    both = run("show", scores, "--png", png)
    assert "sensitivity, odd" in both and "sensitivity, big" in both
    assert "big" not in run("show", scores, "--task", "odd")


def test_the_spread_over_samples_is_shown(model_folder, data, tmp_path):
    scores, png = tmp_path / "scores.json", tmp_path / "map.png"
    run("sensitivity", model_folder, data, "--out", scores, "--samples", 3, "--device", "cpu")
    measured = Sensitivity.load(scores)
    q = [error for block, error in measured.relative_error["odd"].items() if block.endswith("q_proj")]
    (line,) = [line for line in run("show", scores, "--task", "odd").splitlines() if line.startswith("error")]
    assert line.split()[1:3] == ["±", f"{statistics.median(q):.0%}"] and line.count("±") == 7
    shown = run("show", scores, "--spread", "--png", png)
    assert "relative error, big" in shown and f"{q[0]:.2g}" in shown
    assert png.read_bytes()[:4] == b"\x89PNG"
    measured.first(1).save(scores)
    assert "±" not in run("show", scores)
    with pytest.raises(ValueError, match="no spread over one sample, or of scores of 0: odd, big"):
        run("show", scores, "--spread")
    (tmp_path / "e.json").write_text('{"model.layers.0.mlp.up_proj": 1}')
    with pytest.raises(ValueError, match="holds experts"):
        run("show", tmp_path / "e.json", "--spread")


def test_an_interrupt_loses_no_finished_task(model_folder, data, tmp_path, monkeypatch):
    out, part = tmp_path / "scores.json", tmp_path / "scores.json.part"
    command = ["sensitivity", model_folder, data, "--out", out, "--batch-size", 5, "--device", "cpu"]
    run(*command)
    whole = Sensitivity.load(out)
    out.unlink()
    module, tasks = sys.modules["smoe.sensitivity"], []  # the package has a function of that name
    real = module.sample_losses

    def interrupted(model, batch, task):
        tasks.append(task)
        if len(tasks) == 2:
            raise KeyboardInterrupt
        return real(model, batch, task)

    monkeypatch.setattr(module, "sample_losses", interrupted)
    stopped = CliRunner().invoke(app, [str(a) for a in command])
    assert stopped.exit_code != 0 and "the same command goes on" in " ".join(stopped.output.split())
    assert list(Sensitivity.load(part).values) == ["odd"] and not out.exists()
    with pytest.raises(ValueError, match="another pass: data, seed differ"):
        run(*command, "--seed", 1)
    assert "has odd already" in run(*command)
    assert tasks == ["odd", "big", "big"]
    assert Sensitivity.load(out) == whole and not part.exists()


def test_batch_size_does_not_change_what_is_written(model_folder, data, tmp_path):
    found = []
    for size in (1, 4):
        run("sensitivity", model_folder, data, "--out", tmp_path / "s.json", "--batch-size", size, "--device", "cpu")
        found.append(Sensitivity.load(tmp_path / "s.json"))
    for block, value in found[0].scores["odd"].items():
        assert found[1].scores["odd"][block] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    ("line", "message"),
    [('{"task": "a"}', "line 1: needs the non-empty strings"), ("{", "line 1: not JSON"), ("", "has no samples")],
)
def test_a_broken_data_file_is_refused_with_its_line(tmp_path, line, message):
    (tmp_path / "bad.jsonl").write_text(line)
    with pytest.raises(ValueError, match=message):
        read_lines(tmp_path / "bad.jsonl")


def test_bad_requests_exit_with_status_2_and_one_line(data, tmp_path, capsys, monkeypatch):
    (tmp_path / "e.json").write_text('{"model.layers.0.mlp.up_proj": 1}')
    for arguments in (["show", tmp_path / "none.json"], ["allocate", tmp_path / "e.json", "--mean", "1"]):
        monkeypatch.setattr(sys, "argv", ["smoe", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 2
        assert "error: " in capsys.readouterr().err


HOLLOW = {"format": "smoe-sensitivity-1", "mode": "paper", "samples": {}, "metadata": {}}


@pytest.mark.parametrize("command", [["show"], ["allocate", "--mean", "1"]])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "not JSON"),
        (b"\x97\xff", "not JSON"),
        *(
            (json.dumps(HOLLOW | {"values": values}).encode(), "needs its numbers")
            for values in ({}, {"a": {}}, {"a": {"x": []}}, {"a": {"x": ["y"]}}, [1])
        ),
    ],
)
def test_a_file_that_holds_no_scores_is_refused_by_name(tmp_path, command, content, message):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.json .*{message}"):
        run(*command, tmp_path / "bad.json")


@pytest.mark.parametrize(("option", "value"), [("mode", "fast"), ("device", "gpu"), ("dtype", "float16")])
def test_a_request_that_cannot_be_met_is_refused_before_the_model_is_loaded(tmp_path, data, option, value):
    with pytest.raises(ValueError, match=f"{option} '{value}'"):
        run("sensitivity", tmp_path / "no-model", data, f"--{option}", value)


def test_scores_go_into_a_folder_that_is_made(model_folder, data, tmp_path):
    out = tmp_path / "new" / "folder" / "scores.json"
    run("sensitivity", model_folder, data, "--out", out, "--targets", "q_proj, up_proj", "--device", "cpu")
    assert len(Sensitivity.load(out).scores["odd"]) == 4


def test_prompts_are_cut_from_the_left_and_answers_never(model_folder):
    tokenizer = tf.AutoTokenizer.from_pretrained(model_folder)
    (batch,) = tokenised([("a long prompt", " yes"), ("p", " no")], tokenizer, 4, max_length=8)
    assert tokenizer.decode(batch["input_ids"][0]) == "ompt yes"
    assert batch["labels"][0].tolist()[:4] == [-100] * 4
    assert tokenizer.decode(batch["labels"][0][4:]) == " yes"
    assert batch["attention_mask"].sum(1).tolist() == [8, 4]
    with pytest.raises(
        ValueError, match=r"an answer of 4 tokens does not fit max_length 4; it takes 5 or more: .*ask for more"
    ):
        tokenised([("p", " yes")], tokenizer, 4, max_length=4)


def test_a_draw_is_seeded_and_does_not_depend_on_other_tasks():
    rows = {"a": [(str(i), "x") for i in range(50)]}
    assert draw(rows, 5, 0) == draw(rows, 5, 0) != draw(rows, 5, 1)
    assert draw(rows | {"b": rows["a"]}, 5, 0)["a"] == draw(rows, 5, 0)["a"]


def test_grid_puts_layers_in_rows_by_number():
    values = {f"model.layers.{i}.mlp.up_proj": float(i) for i in (10, 2)} | {"model.layers.2.attn.q_proj": 7.0}
    grid = grid_of(values, "t", whole=True)
    assert grid.rows == ["2", "10"] and grid.columns == ["up_proj", "q_proj"]
    assert grid.values == [[2.0, 7.0], [10.0, None]] and grid.largest == 10


def test_example_trains_saves_and_loads(tmp_path):
    script = ROOT / "examples" / "finetune_with_trainer.py"
    assert len(script.read_text().splitlines()) < 60
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(script), "--model", "tiny", "--steps", "3", "--out", str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "loads again: SMoEModel" in done.stdout
    assert (tmp_path / "adapter_config.json").exists()
