"""Every rule of the regression gate on made-up records, where what has changed is known."""

from __future__ import annotations

import dataclasses
import html
import json
import random
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import numpy as np
import pytest
from markdown_it import MarkdownIt  # comes with rich
from synthetic_records import TASKS, make_failed, make_run
from typer.testing import CliRunner

from benchmarks.compare import app
from benchmarks.gate.checks import compare
from benchmarks.gate.findings import Limits
from benchmarks.gate.pairs import IncomparableError
from benchmarks.gate.relative import paired_p
from benchmarks.gate.render import as_junit, as_markdown
from reports.analysis.stats import paired_bootstrap
from results.pack import write_pack
from results.record import PHASES
from results.store import Store

METHODS = ("frozen", "lora", "molora", "lora-smoe")


def described(record):
    entry = {"train_hash": "aa", "train_tokens": 9, "evaluation_hash": "bb", "prompt_hash": "cc", "task_version": "1.0"}
    return replace(record, data={task: dict(entry) for task in TASKS})


def run(seeds=(0,), **changes):
    return [described(r) for r in make_run(METHODS, seeds, **{"layers": 2, **changes})]


def changed(records, method, change):
    """The records, those of `method` replaced by what `change` makes of them."""
    return [change(r) if r.spec.method == method else r for r in records]


def notable(base, new, **limits):
    """{(row, check): status} of everything that is not as it was."""
    return {(f.row, f.check): f.status for f in compare(base, new, Limits(**limits)) if f.status != "ok"}


def costing(record, phase, **factors):
    cost = record.costs[phase]
    values = {name: type(getattr(cost, name))(getattr(cost, name) * factor) for name, factor in factors.items()}
    return replace(record, costs={**record.costs, phase: replace(cost, **values)})


def answering(record, flip, to, tasks=TASKS):
    """`flip` documents of each task that were answered otherwise are answered `to` (1.0 right, 0.0 wrong)."""
    scores = dict(record.scores)
    for task in tasks:
        outcomes = list(scores[task].outcomes)
        for i in [i for i, o in enumerate(outcomes) if o != to][:flip]:
            outcomes[i] = to
        scores[task] = replace(scores[task], outcomes=tuple(outcomes), value=float(np.mean(outcomes)))
    return replace(record, scores=scores)


def test_the_same_records_pass_with_every_check_named():
    findings = compare(run(), run(), Limits())
    assert {f.status for f in findings} == {"ok"} and {f.row for f in findings} == set(METHODS)
    assert {f.check for f in findings if f.row == "lora-smoe"} == {
        "job", "trainable parameters", "adapter bytes", "allocation", "prompts", "training data", "answers", "accuracy",
        "training loss", *(f"memory {phase}" for phase in PHASES), "time allocate", "time train", "time evaluate",
    }  # fmt: skip


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(
    ("factor", "status"), [(1.021, "regression"), (1.019, "warning"), (1.004, None), (0.97, "improvement")]
)
def test_peak_memory_of_every_phase_is_held(phase, factor, status):
    new = changed(run(), "lora-smoe", lambda r: costing(r, phase, peak_resident_bytes=factor))
    assert notable(run(), new) == ({("lora-smoe", f"memory {phase}"): status} if status else {})


def test_memory_that_was_not_measured_is_not_judged():
    unknown = [replace(r, costs={p: replace(c, peak_resident_bytes=None) for p, c in r.costs.items()}) for r in run()]
    assert not [f for f in compare(unknown, run(), Limits()) if f.check.startswith("memory")]
    lost = notable(run(), unknown)  # but it must not get lost
    assert lost == {(m, f"memory {phase}"): "regression" for m in METHODS for phase in PHASES}


@pytest.mark.parametrize(
    ("field", "check"), [("trainable", "trainable parameters"), ("adapter_bytes", "adapter bytes")]
)
@pytest.mark.parametrize("step", [-1, 1])
def test_sizes_must_not_change_at_all(field, check, step):
    def other(record):
        value = getattr(record.parameters, field) + step
        return replace(record, parameters=replace(record.parameters, **{field: value}))

    assert notable(run(), changed(run(), "molora", other)) == {("molora", check): "regression"}


def test_another_allocation_is_named_by_its_blocks():
    block = "model.layers.1.mlp.up_proj"

    def other(record):
        experts = record.facts["experts"]
        return replace(record, facts={**record.facts, "experts": {**experts, block: experts[block] + 1}})

    findings = compare(run(), changed(run(), "lora-smoe", other), Limits())
    (found,) = [f for f in findings if f.status != "ok"]
    assert (found.row, found.check, found.status) == ("lora-smoe", "allocation", "regression")
    assert found.change == "1 of 14" and block in found.detail and int(found.new) == int(found.base) + 1


def test_a_lost_allocation_is_a_regression():
    new = changed(run(), "lora-smoe", lambda r: replace(r, facts={}))
    assert notable(run(), new) == {("lora-smoe", "allocation"): "regression"}


@pytest.mark.parametrize(("name", "check"), [("prompt_hash", "prompts"), ("train_hash", "training data")])
def test_a_changed_prompt_is_named_by_its_task(name, check):
    def other(record):
        return replace(record, data={**record.data, "piqa": {**record.data["piqa"], name: "dd"}})

    findings = [f for f in compare(run(), [other(r) for r in run()], Limits()) if f.status != "ok"]
    assert {(f.row, f.check, f.status) for f in findings} == {(m, check, "regression") for m in METHODS}
    assert all(f"piqa {name} " in f.detail and "-> dd" in f.detail for f in findings)


def test_a_record_from_before_prompts_were_hashed_agrees_with_any():
    def older(record):
        return replace(
            record, data={t: {k: v for k, v in d.items() if k != "prompt_hash"} for t, d in record.data.items()}
        )

    base = [older(r) for r in run()]
    assert notable(base, run()) == {} and not [f for f in compare(base, run(), Limits()) if f.check == "prompts"]


def test_a_prompt_hash_that_got_lost_is_a_regression():
    def without(record):
        return replace(
            record, data={t: {k: v for k, v in d.items() if k != "prompt_hash"} for t, d in record.data.items()}
        )

    new = changed(run(), "lora", without)
    assert notable(run(), new) == {("lora", "prompts"): "regression"}


def test_records_of_costs_alone_are_compared_without_accuracy():
    def cost_only(factor):
        found = [replace(r, spec=replace(r.spec, protocol="cost", evaluation_limit=None), scores={}) for r in run()]
        return [costing(r, "train", peak_resident_bytes=factor) for r in found]

    assert {f.check for f in compare(cost_only(1.0), cost_only(1.0), Limits())} >= {"memory train", "allocation"}
    assert not [f for f in compare(cost_only(1.0), cost_only(1.0), Limits()) if f.check == "accuracy"]
    assert set(notable(cost_only(1.0), cost_only(1.05)).values()) == {"regression"}


ELSEWHERE = {"deterministic": False}  # a device on which the same code need not answer the same


def elsewhere(records):
    return [replace(r, environment={**r.environment, **ELSEWHERE}) for r in records]


def test_accuracy_counts_when_it_falls_far_and_surely():
    base = elsewhere(run())
    assert notable(base, changed(base, "molora", lambda r: answering(r, 3, 0.0))) == {
        ("molora", "accuracy"): "regression"
    }
    assert notable(base, changed(base, "molora", lambda r: answering(r, 3, 1.0))) == {
        ("molora", "accuracy"): "improvement"
    }
    # Six documents in 320 are 1.9 points, but p = 1/64.
    few = changed(base, "molora", lambda r: answering(r, 1, 0.0, TASKS[:6]))
    assert notable(base, few) == {}
    assert notable(base, few, p=0.02) == {("molora", "accuracy"): "regression"}
    # 16 documents in 4,000 are as sure as can be, but only 0.4 points.
    base = elsewhere(run(count=500))
    little = changed(base, "molora", lambda r: answering(r, 2, 0.0))
    assert notable(base, little) == {}
    assert set(notable(base, little, accuracy=0.003).values()) == {"regression"}


def test_accuracy_is_a_difference_to_the_reference_and_only_its_own_for_the_reference():
    base = elsewhere(run())
    together = [answering(r, 3, 0.0) for r in base]
    found = compare(base, together, Limits())
    assert {f.row for f in found if f.check == "accuracy" and f.status == "regression"} <= {"lora"}
    better = changed(base, "lora", lambda r: answering(r, 3, 1.0))
    assert notable(base, better) == {
        ("lora", "accuracy"): "improvement",
        **{(m, "accuracy"): "regression" for m in METHODS if m != "lora"},
    }
    alone = [r for r in base if r.spec.method == "molora"]
    assert notable(alone, [answering(r, 3, 0.0) for r in alone]) == {("molora", "accuracy"): "regression"}


@pytest.mark.parametrize("to", [0.0, 1.0])
def test_one_changed_answer_fails_where_runs_repeat_and_is_named(to):
    other = changed(run(), "molora", lambda r: answering(r, 1, to, TASKS[:1]))
    (finding,) = [f for f in compare(run(), other, Limits()) if f.status != "ok"]
    assert (finding.row, finding.check, finding.status) == ("molora", "answers", "regression")
    assert (
        finding.change == "1 of 320 documents" and f"{TASKS[0]} " in finding.detail and "new baseline" in finding.detail
    )
    assert notable(run(), other, declared=True) == {("molora", "answers"): "warning"}
    assert notable(elsewhere(run()), elsewhere(other)) == {}


def with_choices(record, shift=0.0, documents=None, answers=None):
    """Two choices a document, the right one first; its log-likelihood is raised by `shift` in the first `documents`."""

    def score(old):
        right = [-1.0 - i / 100 + (shift if documents is None or i < documents else 0.0) for i in range(old.count)]
        return replace(
            old, loglikelihoods=tuple((x, -2.0) for x in right), choice_bytes=((4, 4),) * old.count,
            gold=(0,) * old.count, answers=answers and answers * old.count,
        )  # fmt: skip

    return replace(record, scores={task: score(old) for task, old in record.scores.items()})


@pytest.mark.parametrize(("shift", "status"), [(1e-5, None), (-2e-4, "regression"), (2e-4, "regression")])
def test_a_changed_log_likelihood_fails_where_runs_repeat(shift, status):
    base = [with_choices(r) for r in run()]
    other = changed(base, "lora-smoe", lambda r: with_choices(r, shift, documents=1))
    assert notable(base, other) == ({("lora-smoe", "answers"): status} if status else {})


def test_another_written_answer_fails_where_runs_repeat_though_both_are_wrong():
    base = [with_choices(r, answers=("a",)) for r in run()]
    other = changed(base, "lora", lambda r: with_choices(r, answers=("b",)))
    assert notable(base, other) == {("lora", "answers"): "regression"}


def test_a_sure_loss_of_log_likelihood_fails_where_no_answer_changes():
    base = elsewhere([with_choices(r) for r in run()])
    worse = changed(base, "lora-smoe", lambda r: with_choices(r, -0.002))
    assert notable(base, worse) == {("lora-smoe", "log-likelihood"): "regression"}
    assert notable(worse, base) == {("lora-smoe", "log-likelihood"): "improvement"}
    assert notable(base, worse, loglikelihood=0.003) == {}
    together = [
        with_choices(r, -0.002) for r in base
    ]  # a library's doing: all methods alike, the reference but for itself
    assert notable(base, together) == {("lora", "log-likelihood"): "regression"}


def test_a_reference_that_is_not_there_is_refused_with_the_nearest_name(tmp_path):
    for side in ("base", "new"):
        for record in run():
            Store(tmp_path / side).save(record)
    command = [str(tmp_path / "base"), str(tmp_path / "new")]
    result = CliRunner().invoke(app, [*command, "--reference", "lroa"])
    assert result.exit_code == 2 and "did you mean lora" in result.stderr
    assert CliRunner().invoke(app, [*command, "--reference", "molora"]).exit_code == 0


@pytest.mark.parametrize("value", ["nan", "inf", "0", "-1"])
@pytest.mark.parametrize("option", [f.name.replace("_", "-") for f in dataclasses.fields(Limits) if f.type == "float"])
def test_a_limit_that_is_no_positive_number_is_refused(tmp_path, option, value):
    result = CliRunner().invoke(app, [str(tmp_path), str(tmp_path), f"--{option}", value])
    assert result.exit_code == 2 and f"{option.replace('-', '_')}: " in result.stderr and "above 0" in result.stderr


def test_the_paired_p_is_the_exact_one_of_sign_changes():
    assert paired_p([np.array([-1.0, -1.0, -1.0, 0.0])]) == pytest.approx(1 / 8)
    assert paired_p([np.zeros(5)]) == 1.0
    assert paired_p([np.array([0.0, -1.0, 0.0])]) == 0.5  # a single change is as likely to have the other sign
    # Weights 1/2, 1/2 and 1: of eight sums +-1/2 +-1/2 +-1, three are at most -1/2 + 1/2 - 1 = -1: -2, -1, -1.
    assert paired_p([np.array([-1.0, 1.0]), np.array([-1.0])]) == pytest.approx(3 / 8)


def test_the_paired_p_agrees_with_the_reports_two_sided_one():
    noise = random.Random(0)
    for shift in (0.02, 0.05, 0.08):
        tasks = [
            np.array([noise.choices((-1.0, 0.0, 1.0), (0.1 + shift / 2, 0.8, 0.1 - shift / 2))[0] for _ in range(n)])
            for n in (300, 500, 200)
        ]
        assert 2 * paired_p(tasks) == pytest.approx(paired_bootstrap(tasks).p, abs=0.02)


def test_time_is_relative_to_the_reference_of_the_same_session():
    slow_machine = run()
    for phase in PHASES:
        slow_machine = [costing(r, phase, wall_seconds=3.0) for r in slow_machine]
    assert notable(run(), slow_machine) == {}
    slow = changed(run(), "molora", lambda r: costing(r, "train", wall_seconds=1.6))
    assert notable(run(), slow) == {("molora", "time train"): "regression"}
    fast = changed(run(), "molora", lambda r: costing(r, "train", wall_seconds=0.6))
    assert notable(run(), fast) == {("molora", "time train"): "improvement"}


def test_time_within_the_spread_of_repeats_passes():
    once = changed(run(), "molora", lambda r: costing(r, "train", wall_seconds=1.4))
    assert notable(run(), once) == {}
    assert notable(run(), once, time_spread=0.2) == {("molora", "time train"): "regression"}

    def repeats(*factors):
        records = [described(r) for r in make_run(("lora", "molora"), (0,), layers=2)]
        found = []
        for seed, factor in enumerate(factors):
            for r in records:
                r = replace(r, spec=replace(r.spec, seed=seed))
                found.append(costing(r, "train", wall_seconds=factor) if r.spec.method == "molora" else r)
        return found

    base = repeats(0.95, 1.0, 1.1)
    assert notable(base, repeats(1.18, 1.2, 1.25)) == {("molora", "time train"): "regression"}
    assert notable(base, repeats(1.08, 1.2, 1.25)) == {}
    assert notable(base, repeats(1.11, 1.12, 1.13)) == {}


def test_short_phases_are_not_timed():
    checks = {f.check for f in compare(run(), run(), Limits(shortest_seconds=100)) if f.row == "molora"}
    assert not [check for check in checks if check.startswith("time")]


@pytest.mark.parametrize(("factor", "status"), [(1.003, "regression"), (1.001, "warning"), (0.98, "improvement")])
def test_the_training_loss_is_held(factor, status):
    def other(record):
        return replace(record, losses=tuple(x * factor for x in record.losses))

    assert notable(run(), changed(run(), "lora", other)) == {("lora", "training loss"): status}


def test_a_method_that_trains_no_more_is_caught():
    new = changed(run(), "lora", lambda r: replace(r, losses=()))
    assert notable(run(), new) == {("lora", "training loss"): "regression"}


def test_losses_that_a_device_cannot_repeat_need_not_be_equal_bit_for_bit():
    def other(record):
        return replace(record, losses=tuple(x * 1.001 for x in record.losses))

    base, new = (run(env={"deterministic": False}) for _ in range(2))
    assert notable(base, changed(new, "lora", other)) == {}


VERSIONS = {"torch": "2.13.0+cpu", "transformers": "5.23.0", "peft": "0.21.2", "lm_eval": "0.4.13"}


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ({"cpu_model": "Other CPU"}, "device_name differs: BASE has 'Test CPU', NEW has 'Other CPU'"),
        ({"threads": 8}, "threads differs: BASE has None, NEW has 8"),
        *(
            ({"versions": {**VERSIONS, name: "9.9.1"}}, f"{name} differs: BASE has '{version[:4].rstrip('.')}'")
            for name, version in VERSIONS.items()
        ),
    ],
)
def test_another_machine_or_version_is_refused_by_name(env, said):
    if "lm_eval" in said:
        said = "lm_eval differs: BASE has '0.4', NEW has '9.9'"
    with pytest.raises(IncomparableError) as refused:
        compare(run(), run(env=env), Limits())
    assert said in str(refused.value) and "python -m benchmarks.gate" in str(refused.value)


def test_a_patch_release_is_no_other_version():
    assert notable(run(), run(env={"versions": {**VERSIONS, "torch": "2.13.1+cpu"}})) == {}


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"dtype": "float32"}, "dtype differs: BASE has 'bfloat16', NEW has 'float32'"),
        ({"source": "hub"}, "source differs: BASE has 'embedded', NEW has 'hub'"),
        ({"protocol": "generative"}, "protocol differs"),
        ({"device": "cuda"}, "device differs"),
        ({"train_documents": 7}, "no row in common"),
    ],
)
def test_another_request_is_refused_by_name(spec, said):
    with pytest.raises(IncomparableError, match=said):
        compare(run(), run(**spec), Limits())


@pytest.mark.parametrize(("name", "value"), [("task_version", "2.0"), ("evaluation_hash", "xx")])
def test_other_evaluation_documents_are_refused_by_task(name, value):
    def other(record):
        return replace(record, data={**record.data, "boolq": {**record.data["boolq"], name: value}})

    with pytest.raises(IncomparableError, match=f"boolq (task_version|documents) differs: .*{value}"):
        compare(run(), [other(r) for r in run()], Limits())


def test_other_documents_or_metrics_in_the_scores_are_refused():
    def with_score(record, **fields):
        return replace(record, scores={**record.scores, "piqa": replace(record.scores["piqa"], **fields)})

    def renamed(record):
        documents = record.scores["piqa"].documents
        return with_score(record, documents=("x", *documents[1:]))

    with pytest.raises(IncomparableError, match="piqa documents differs"):
        compare(run(), [renamed(r) for r in run()], Limits())
    with pytest.raises(IncomparableError, match="piqa metric differs: BASE has 'acc', NEW has 'acc_norm'"):
        compare(run(), [with_score(r, metric="acc_norm") for r in run()], Limits())


def test_a_side_that_is_no_single_session_is_refused():
    mixed = changed(run(), "molora", lambda r: replace(r, environment={**r.environment, "cpu_model": "Other CPU"}))
    with pytest.raises(IncomparableError, match="BASE itself mixes records that differ in device_name"):
        compare(mixed, mixed, Limits())


def test_a_missing_row_does_not_pass():
    new = [r for r in run() if r.spec.method != "molora"]
    assert notable(run(), new) == {("molora", "job"): "regression"}
    assert notable(run(), new, allow_missing=True) == {("molora", "job"): "warning"}
    assert notable(new, run()) == {("molora", "job"): "new"}


def test_a_missing_seed_does_not_pass():
    (found,) = [f for f in compare(run((0, 1)), run((0,)) + run((1,))[1:], Limits()) if f.status != "ok"]
    assert (found.row, found.check, found.status) == ("frozen", "job", "regression")
    assert (found.base, found.new) == ("2 done", "1 done") and "seeds 1 are missing" in found.detail


def test_a_failed_job_does_not_pass_and_says_why():
    failed = make_failed("molora", error="MemoryError: too much")
    failed = replace(failed, spec=run()[2].spec)
    new = changed(run(), "molora", lambda r: failed)
    (found,) = [f for f in compare(run(), new, Limits()) if f.status != "ok"]
    assert (found.check, found.status) == ("job", "regression") and "MemoryError: too much" in found.detail
    assert notable(new, new) == {("molora", "job"): "warning"}
    assert notable(new, run()) == {("molora", "job"): "improvement"}


def test_another_default_makes_another_row_and_the_message_says_so():
    other = changed(run(), "molora", lambda r: replace(r, spec=replace(r.spec, hyperparameters={"r": 4, "alpha": 16})))
    findings = {f.row: f for f in compare(run(), other, Limits()) if f.status != "ok"}
    assert {row: f.status for row, f in findings.items()} == {"molora (r=8)": "regression", "molora (r=4)": "new"}
    assert "another default of a hyperparameter" in findings["molora (r=8)"].detail


# The command


@pytest.fixture
def command(tmp_path):
    """Save two runs and compare them; returns what the command did."""

    def invoke(base, new, *options):
        for name, records in (("base", base), ("new", new)):
            for record in records:
                Store(tmp_path / name).save(record)
        return CliRunner().invoke(app, [str(tmp_path / "base"), str(tmp_path / "new"), *options])

    return invoke


def test_the_exit_status_and_the_files_tell_a_regression(command, tmp_path):
    slow = changed(run(), "lora-smoe", lambda r: costing(r, "train", peak_resident_bytes=1.05))
    files = ["--junit", str(tmp_path / "junit.xml"), "--markdown", str(tmp_path / "gate.md")]
    result = command(run(), slow, *files)
    assert result.exit_code == 1
    assert "memory train" in result.stdout and "+5.00%" in result.stdout and "1 regression" in result.stdout
    assert "| regression | lora-smoe | memory train |" in (tmp_path / "gate.md").read_text()
    suites = ElementTree.parse(tmp_path / "junit.xml").getroot()
    (case,) = [c for c in suites.iter("testcase") if c.find("failure") is not None]
    assert (case.get("classname"), case.get("name")) == ("lora-smoe", "memory train")
    assert command(run(), slow, "--memory", "6").exit_code == 0


def test_the_exit_status_is_0_without_a_regression_and_improvements_ask_for_a_new_baseline(command):
    lean = changed(run(), "lora-smoe", lambda r: costing(r, "train", peak_resident_bytes=0.9))
    result = command(run(), lean)
    assert result.exit_code == 0 and "1 improvement" in result.stdout and "new baseline" in result.stdout


def test_what_is_unchanged_is_printed_on_request(command):
    assert "memory load" not in command(run(), run()).stdout
    assert "memory load" in command(run(), run(), "--all").stdout


def test_the_exit_status_is_2_when_nothing_can_be_compared(command, tmp_path):
    junit, markdown = tmp_path / "junit.xml", tmp_path / "gate.md"
    result = command(run(), run(env={"cpu_model": "Other"}), "--junit", str(junit), "--markdown", str(markdown))
    assert result.exit_code == 2 and "device_name differs" in result.stderr
    assert "device_name differs" in markdown.read_text()
    assert ElementTree.parse(junit).getroot().find("testsuite/testcase/error") is not None
    assert CliRunner().invoke(app, [str(tmp_path / "base"), str(tmp_path / "nothing")]).exit_code == 2


def test_an_unreadable_record_is_named_and_left_where_it_is(command, tmp_path):
    (tmp_path / "base").mkdir()
    broken = tmp_path / "base" / "commonsense--tiny--lora--s0--00000000.json"
    broken.write_text("{")
    result = command(run(), run())
    assert result.exit_code == 2 and broken.name in result.stderr and broken.read_text() == "{"


def test_what_is_named_as_no_record_is_none_of_the_gate_s_business(command, tmp_path):
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "repeats.json").write_text("{")
    assert command(run(), run()).exit_code == 0


def test_two_files_are_compared_as_well(tmp_path):
    paths = [str(Store(tmp_path / name).save(run()[1])) for name in ("a", "b")]
    assert CliRunner().invoke(app, paths).exit_code == 0


def test_a_pack_is_compared_as_the_folder_it_was_made_of(tmp_path):
    for record in run():
        path = Store(tmp_path / "a").save(record)
    bodies = {p.stem: json.loads(p.read_text()) for p in path.parent.iterdir()}
    write_pack(bodies, tmp_path / "a.jsonl.xz")
    result = CliRunner().invoke(app, [str(tmp_path / "a.jsonl.xz"), str(tmp_path / "a"), "--all"])
    assert result.exit_code == 0 and "4 rows" in result.stdout


def test_every_limit_is_an_option_with_the_protocol_s_default():
    shown = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "200"}).stdout
    for field in dataclasses.fields(Limits):
        assert f"--{field.name.replace('_', '-')}" in shown
    assert (Limits().memory, Limits().memory_warning, Limits().accuracy, Limits().p, Limits().time) == (
        0.02, 0.005, 0.005, 0.01, 0.15,
    )  # fmt: skip


def test_the_junit_file_has_a_case_for_each_row_and_check_and_counts_that_add_up():
    findings = compare(run(), changed(run(), "lora", lambda r: answering(r, 3, 0.0)), Limits())
    suites = ElementTree.fromstring(as_junit(findings).split("\n", 1)[1])
    (suite,) = suites
    cases = list(suite)
    assert suites.tag == "testsuites" and suite.tag == "testsuite" and {c.tag for c in cases} == {"testcase"}
    assert (
        len(cases)
        == int(suite.get("tests"))
        == len(findings)
        == len({(c.get("classname"), c.get("name")) for c in cases})
    )
    failures = [c for c in cases if c.find("failure") is not None]
    assert len(failures) == int(suite.get("failures")) >= 1 and suite.get("errors") == "0"
    assert {child.tag for c in cases for child in c} <= {"failure", "system-out"}
    assert all(c.get("name") and c.get("classname") for c in cases)


def test_what_an_error_message_may_hold_neither_breaks_the_junit_file_nor_gets_lost(command, tmp_path):
    failed = replace(make_failed("molora", error="\x1b[31mE\x1b[0m: \x00 <a> [/b] [red]"), spec=run()[2].spec)
    result = command(run(), changed(run(), "molora", lambda r: failed), "--junit", str(tmp_path / "junit.xml"))
    assert result.exit_code == 1 and "[/b] [red]" in result.stdout
    (failure,) = ElementTree.parse(tmp_path / "junit.xml").getroot().iter("failure")
    assert "E:  <a> [/b] [red]" in failure.get("message")


@pytest.mark.parametrize("option", ["--junit", "--markdown"])
def test_a_file_that_cannot_be_written_is_no_regression(command, tmp_path, option):
    for new in (run(), run(env={"cpu_model": "Other"})):
        result = command(run(), new, option, str(tmp_path / "nowhere" / "file"))
        assert result.exit_code == 2 and "nowhere" in result.stderr and not isinstance(result.exception, OSError)


def test_nothing_is_printed_as_minus_zero(command):
    new = [costing(r, "train", peak_resident_bytes=1 - 1e-7, wall_seconds=1 - 1e-9) for r in run()]
    result = command(run(), new, "--all")
    assert "+0.00%" in result.stdout and "-0.00" not in result.stdout


@pytest.mark.parametrize("text", ["<img src=x onerror=alert(1)>", "[click](javascript:alert(1))", "</details><script>"])
def test_the_markdown_shows_what_a_record_says_and_does_nothing(command, tmp_path, text):
    failed = replace(make_failed("molora", error=text), spec=run()[2].spec)
    file = tmp_path / "gate.md"
    for new, status in ((changed(run(), "molora", lambda r: failed), 1), (run(env={"cpu_model": text}), 2)):
        assert command(run(), new, "--markdown", str(file)).exit_code == status
        shown = MarkdownIt("commonmark", {"html": True}).enable("table").render(file.read_text())
        assert html.escape(text) in shown and not re.search("<(img|script|a)", shown)
        assert shown.count("</details>") == shown.count("<details>")


def test_markdown_is_safe_for_a_name_with_a_pipe():
    (finding, *_) = compare(run(), run(), Limits())
    odd = replace(finding, status="regression", detail="a | b\nc")
    assert "a \\| b c |" in as_markdown([odd])
