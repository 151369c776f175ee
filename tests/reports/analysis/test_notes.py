"""A table says which trained methods are not shown to have learned, and which hardly moved in their first step."""

from __future__ import annotations

import dataclasses
import math

import pytest
from synthetic_records import make_record, make_run

from reports.analysis.groups import make_groups
from reports.analysis.notes import learned_note
from reports.analysis.wording import EMBEDDED, data_source
from reports.render.write import draw


def learner(method, bits, first_step=1.0):
    """A record whose documents differ a little and have `bits` a byte of the right choice on average."""
    record = make_record(method)
    scores = {
        task: dataclasses.replace(
            s,
            loglikelihoods=tuple((-4 * (bits + 0.01 * (i % 5)) * math.log(2), -99.0) for i in range(s.count)),
            choice_bytes=((4, 4),) * s.count,
            gold=(0,) * s.count,
        )
        for task, s in record.scores.items()
    }
    return dataclasses.replace(record, scores=scores, first_step=first_step if record.losses else None)


def note(*records):
    (group,) = make_groups(records)
    return learned_note(group)


def test_all_below_frozen_is_said():
    assert note(learner("frozen", 2.0), learner("lora", 1.5), learner("molora", 1.6)).startswith("Every trained method")


@pytest.mark.parametrize("bits", [2.0, 2.3])
def test_what_is_not_below_frozen_is_named(bits):
    text = note(learner("frozen", 2.0), learner("lora", 1.5), learner("molora", bits))
    assert text == "Not shown to have fewer bits per byte than frozen (95% interval): molora."


def test_a_first_step_a_tenth_of_the_references_is_named_with_its_length():
    text = note(learner("frozen", 2.0), learner("lora", 1.5), learner("adalora", 1.9, 0.002), learner("dora", 1.5, 0.2))
    assert "adalora (0.002 logits)" in text and "that of lora (1.000 logits)" in text and "dora" not in text


def test_nothing_is_said_without_a_frozen_row_or_log_likelihoods():
    assert note(learner("lora", 1.5), learner("molora", 1.6)) == ""
    assert note(make_record("frozen"), make_record("lora")) == ""


def test_what_others_contributed_is_named_in_tables_on_the_page_and_in_the_list_of_records(tmp_path):
    made = [*make_run(["lora", "molora"], (0, 1), layers=1), make_record("dora", layers=1)]
    records = [dataclasses.replace(r, contributed=r.spec.method == "dora" or r.key == made[1].key) for r in made]
    groups = make_groups(records)
    draw(groups, tmp_path, images=())
    for text in ((tmp_path / "index.html").read_text(), (tmp_path / groups[0].name / "main.md").read_text()):
        assert "Contributed by others, checked and not repeated here: lora (seeds 1) and dora." in text
        assert text.count("done, contributed") == 2
    draw(make_groups(made), tmp_path, images=())
    assert "ontributed" not in (tmp_path / groups[0].name / "main.md").read_text()


def test_documents_are_called_yours_the_embedded_split_or_both_and_public_ones_need_no_word():
    def said(own, tasks=("a", "b"), source="embedded", **data):
        record = make_record("lora", layers=1)
        spec = dataclasses.replace(record.spec, tasks=tasks, source=source, own_tasks="12ab" if own else None)
        facts = {task: {"own": True} if task in own else {} for task in tasks} if data.get("read", True) else {}
        failed = dataclasses.replace(record, spec=spec, data=facts, scores=None, status="failed", error="x")
        return data_source([failed])

    assert said([]) == EMBEDDED and said([], source="hub") == ""
    assert said(["a", "b"]) == "your data" == said(["a"], read=False)
    assert said(["a"]) == f"your data (a); {EMBEDDED}" and said(["a"], source="hub") == "your data"
