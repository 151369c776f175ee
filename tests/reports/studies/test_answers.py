"""Studies answered: by hand-made records whose differences are known, and drawn."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import pytest
from scipy.stats import spearmanr
from synthetic_records import make_record
from typer.testing import CliRunner

from reports.__main__ import app
from reports.analysis import claims
from reports.analysis.claims import NOT_REPRODUCED, REPRODUCED, UNDECIDABLE, _study
from reports.analysis.study_answers import agreement_points, answered, load_answers
from reports.studies.drawing import curve_frame
from reports.studies.page import study_table, write_study
from results.store import Store
from results.studies.study import Contrast, Study

TASKS = ("boolq", "piqa")
COUNT = 60


def record(label, seed, bits, jitter=0.0, variants=None, tasks=TASKS, **spec):
    """A record whose right answers take `bits` a byte, give or take, on the same documents as all others."""
    made = make_record(label, seed, layers=1, count=COUNT, tasks=tasks, **spec)

    def scores(level):
        found = {}
        for task, score in made.scores.items():
            noise = random.Random(f"{label}{seed}{task}")
            spread = [level + random.Random(f"{task}{i}").gauss(0, 0.3) + noise.gauss(0, jitter) for i in range(COUNT)]
            choices = tuple((-0.6931471805599453 * 4 * s, -9.0) for s in spread)
            sizes = ((4, 4),) * COUNT
            found[task] = dataclasses.replace(score, loglikelihoods=choices, choice_bytes=sizes, gold=(0,) * COUNT)
        return found

    of_variants = {how: scores(level) for how, level in (variants or {}).items()} or None
    return dataclasses.replace(made, scores=scores(bits), variants=of_variants)


def study_of(records, *contrasts):
    arms = {}
    for label, r in records:
        arms.setdefault(label, []).append(r.key)
    return Study(
        name="made", size="tiny", question="Is it?", design="So.", yes="a", no="b", undecided="c",
        measure="bits_per_byte", arms={label: tuple(keys) for label, keys in arms.items()}, contrasts=contrasts,
    )  # fmt: skip


def answer_of(records, *contrasts):
    return answered(study_of(records, *contrasts), {r.key: r for _, r in records})


def run(label, bits, seeds=(0, 1, 2), **more):
    return [(label, record(label, seed, bits + 0.001 * seed, jitter=0.01, **more)) for seed in seeds]


AGAINST = Contrast(name="a against b", arm="a", reference="b")


@pytest.mark.parametrize(
    ("bits", "word", "answer"), [(1.8, "better", "yes"), (2.2, "worse", "no"), (2.001, "equivalent", "no")]
)
def test_a_difference_is_answered_by_its_verdict(bits, word, answer):
    found = answer_of([*run("a", bits), *run("b", 2.0)], AGAINST)
    (one,) = found.answers
    assert (one.word, one.answer, found.answer, one.seeds) == (word, answer, answer, 3)
    assert one.value == pytest.approx(bits - 2.0, abs=0.01) and one.interval[0] < one.value < one.interval[1]
    assert found.sentence.startswith(answer.capitalize())


def test_where_worse_means_yes_it_does():
    asked = dataclasses.replace(AGAINST, yes=("worse",), no=("better", "equivalent"))
    assert answer_of([*run("a", 2.2), *run("b", 2.0)], asked).answer == "yes"


def test_contrasts_that_disagree_or_have_no_records_leave_it_undecided():
    other = Contrast(name="a against c", arm="a", reference="c")
    records = [*run("a", 1.8), *run("b", 2.0), *run("c", 1.5)]
    assert answer_of(records, AGAINST, other).answer == "undecided"
    assert answer_of(records, AGAINST, dataclasses.replace(other, decides=False)).answer == "yes"
    study = study_of(records, AGAINST)
    found = answered(study, {r.key: r for label, r in records if label != "b"})
    assert found.answer == "undecided" and found.answers[0].note == "no records to compare"
    assert "3 of 9 jobs are missing" in found.sentence


def test_one_seed_says_that_it_is_about_these_models():
    found = answer_of([*run("a", 1.8, seeds=(0,)), *run("b", 2.0, seeds=(0,))], AGAINST)
    assert found.answers[0].note == "one seed: these models only" and found.answer == "yes"


def test_a_variant_is_the_same_models_evaluated_otherwise():
    shuffled = Contrast(name="a against itself, shuffled", kind="variant", arm="a", variant="shuffled")
    found = answer_of(run("a", 2.0, variants={"shuffled": 2.3}), shuffled)
    assert found.answer == "yes" and found.answers[0].value == pytest.approx(-0.3, abs=0.01)
    assert answer_of(run("a", 2.0), shuffled).answer == "undecided"  # it was not probed


@pytest.mark.parametrize(
    ("bits", "p", "word"), [(1.0, 1 / 21, "better"), (2.045, 6 / 21, "undecided"), (9, 1, "worse")]
)
def test_a_rank_among_random_ones_is_a_permutation_test(bits, p, word):
    draws = [(f"random {i}", record(f"random {i}", 0, 2 + 0.01 * i)) for i in range(20)]
    asked = Contrast(name="a among them", kind="rank", arm="a", among=tuple(label for label, _ in draws), no=("worse",))
    found = answer_of([*run("a", bits, seeds=(0, 1)), *draws], asked)
    assert found.answers[0].p == pytest.approx(p) and found.answers[0].word == word


def test_the_mean_of_several_arms_is_compared_with_at_the_same_seeds():
    others = [pair for i, bits in enumerate((1.9, 2.1, 2.3)) for pair in run(f"random {i}", bits)]
    asked = Contrast(name="a among them", kind="mean", arm="a", among=("random 0", "random 1", "random 2"))
    found = answer_of([*run("a", 1.8), *others], asked)
    (one,) = found.answers
    assert one.value == pytest.approx(1.8 - 2.1, abs=0.01) and (one.seeds, one.answer) == (3, "yes")
    assert answer_of([*run("a", 2.1), *others], asked).answer == "no"  # equal to the mean, if worse than the best
    with pytest.raises(ValueError, match="says not with what it compares"):
        dataclasses.replace(asked, among=())


BLOCKS = [f"model.layers.{i}.mlp.up_proj" for i in range(12)]


def placed(label, bits, moved, seeds=(0, 1, 2)):
    """Records whose allocations differ from seed to seed in the places of `moved` blocks."""
    made = []
    for _, r in run(label, bits, seeds):
        order = list(range(len(BLOCKS)))
        order[:moved] = random.Random(f"{label}{r.spec.seed}").sample(order[:moved], moved)
        made.append((label, dataclasses.replace(r, facts={"experts": dict(zip(BLOCKS, order, strict=True))})))
    return made


@pytest.mark.parametrize(
    ("levels", "word", "answer"),
    [((1.5, 1.6, 1.7, 1.8, 1.9), "better", "yes"), ((1.9, 1.8, 1.7, 1.6, 1.5), "worse", "no"),
     ((1.5, 1.9, 1.6, 1.8, 1.7), "undecided", "undecided")],
)  # fmt: skip
def test_agreement_over_seeds_is_correlated_with_what_is_learned(levels, word, answer, tmp_path):
    names = [f"score{i}" for i in range(5)]
    records = [r for i, name in enumerate(names) for r in placed(name, levels[i], 2 + 2 * i)]
    asked = Contrast(name="agreement", kind="agreement", arm="score0", among=tuple(names), no=("worse",))
    found = answer_of(records, asked)
    (one,) = found.answers
    points = agreement_points(asked, found.arms, found.measure)
    order = sorted(names, key=lambda n: -points[n][0])
    assert order == names  # fewer blocks moved, more agreement
    expected = spearmanr([points[n][0] for n in names], [-points[n][1] for n in names]).statistic
    assert f"rank correlation {expected:z.2f} over 5" in one.note
    assert (one.word, one.answer) == (word, answer)
    if word == "better":
        assert one.p == pytest.approx(1 / 120)  # the one best of all orders of five
    page = write_study(found, tmp_path, ("png",)).read_text()
    assert "![agreement](agreement.png)" in page and (tmp_path / "agreement.png").stat().st_size > 1000


def test_agreement_needs_two_seeds_and_three_scores():
    asked = Contrast(name="agreement", kind="agreement", arm="a", among=("a", "b", "c"), no=("worse",))
    one_seed = [r for name in "abc" for r in placed(name, 2.0, 4, seeds=(0,))]
    found = answer_of(one_seed, asked)
    assert found.answer == "undecided" and found.answers[0].note.startswith("0 of 3 importances")
    even = [(n, dataclasses.replace(r, facts={"experts": dict.fromkeys(BLOCKS, 4)})) for n, r in placed("c", 2.0, 4)]
    found = answer_of([*placed("a", 2.0, 4), *placed("b", 2.1, 6), *even], asked)
    assert found.answers[0].note.startswith("2 of 3 importances")


def test_curves_go_over_parameters_a_panel_each(tmp_path):
    labels = ["a at 1", "a at 4", "random 0 at 1", "random 0 at 4"]
    records = [r for i, label in enumerate(labels) for r in run(label, 1.8 + 0.1 * i)]
    asked = Contrast(name="a against random", arm="a at 1", reference="random 0 at 1")
    curves = {"rank 8": {"a": labels[:2], "random 0": labels[2:]}}
    study = dataclasses.replace(study_of(records, asked), curves=curves)
    found = answered(study, {r.key: r for _, r in records})
    page = write_study(found, tmp_path, ("png",)).read_text()
    assert "![curves](curves.png)" in page and (tmp_path / "curves.png").stat().st_size > 1000
    frame = curve_frame(found)
    assert list(frame["arm"]) == labels and list(frame["panel"].unique()) == ["rank 8"]
    params = {label: r.parameters.trainable for label, r in reversed(records)}  # the first seed's
    assert list(frame["trainable_params"]) == [params[label] for label in labels]
    assert frame["bits_per_byte"].to_list() == pytest.approx([1.8, 1.9, 2.0, 2.1], abs=0.1)
    assert study.load(study.save(tmp_path).parent) == study
    with pytest.raises(ValueError, match="a curve goes through 'other', which is no arm"):
        dataclasses.replace(study, curves={"rank 8": {"b": ["other"]}})


def test_adapters_of_single_tasks_are_one_row_on_the_tasks_that_are_compared():
    alone = [
        ("alone", record("lora", seed, 2.0, tasks=(task,), task=None, adapters="per-task"))
        for seed in (0, 1)
        for task in TASKS
    ]
    alone = [
        (label, dataclasses.replace(r, spec=dataclasses.replace(r.spec, tasks=TASKS, task=r.spec.tasks[0])))
        for label, r in alone
    ]
    together = [("together", record("lora", seed, 2.2)) for seed in (0, 1)]
    asked = Contrast(
        name="together", arm="together", reference="alone", tasks=("piqa",), yes=("worse",), no=("better",)
    )
    found = answer_of([*alone, *together], asked)
    assert found.answers[0].value == pytest.approx(0.2, abs=1e-6) and found.records == found.jobs == 6


def test_records_of_other_documents_are_refused():
    records = [*run("a", 2.0), *run("b", 2.0)]
    for i, (label, r) in enumerate(records):
        if label == "b":
            score = dataclasses.replace(r.scores["piqa"], documents=tuple(f"{n:012}" for n in range(COUNT)))
            records[i] = (label, dataclasses.replace(r, scores={**r.scores, "piqa": score}))
    with pytest.raises(ValueError, match="'a against b': its records did not answer the same documents of piqa"):
        answer_of(records, AGAINST)


def test_the_page_has_the_question_the_answer_a_table_and_a_figure(tmp_path):
    found = answer_of([*run("a", 1.8), *run("b", 2.0)], AGAINST)
    page = write_study(found, tmp_path / "out", ("png",)).read_text()
    assert page.startswith("# Is it?") and "**Yes." in page and "a against b" in page
    assert (tmp_path / "out" / "contrasts.png").stat().st_size > 1000 and (tmp_path / "out" / "contrasts.csv").is_file()
    assert study_table(found, "").rows[0][4:6] == ("better", "yes")


def test_the_command_answers_from_a_folder_and_claims_take_it(tmp_path, monkeypatch):
    records = [*run("a", 1.8), *run("b", 2.0)]
    folder = tmp_path / "made-tiny"
    folder.mkdir()
    for _, r in records:
        Store(folder).save(r)
    study_of(records, AGAINST).save(folder)
    result = CliRunner().invoke(app, ["study", str(folder), "--no-images"])
    assert result.exit_code == 0, result.output
    assert "Yes. Bits per byte: a against b: better" in result.output and (folder / "report" / "study.md").is_file()
    claim = {"name": "c", "study": "made", "kind": "study"}
    monkeypatch.setattr(claims, "load_answers", lambda: load_answers(tmp_path))
    assert _study(claim).verdict == REPRODUCED
    study_of(records, dataclasses.replace(AGAINST, arm="b", reference="a")).save(folder)
    assert _study(claim).verdict == NOT_REPRODUCED
    assert _study({**claim, "study": "other"}).verdict == UNDECIDABLE
    refused = CliRunner().invoke(app, ["study", str(Path(tmp_path))])
    assert refused.exit_code == 2
