"""A study as it was asked is one file: whole, read back, and refused where it says nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.spec import RecordError
from results.studies.stability import STABILITY
from results.studies.study import FILE, STUDIES, Contrast, Study


def made(**changes):
    fields = {
        "name": "routing", "size": "tiny", "question": "Is it?", "design": "So.", "yes": "a", "no": "b",
        "undecided": "c", "measure": "bits_per_byte", "arms": {"a": ("k1", "k2"), "b": ("k3",)},
        "contrasts": (Contrast(name="a against b", arm="a", reference="b"),),
    }  # fmt: skip
    return Study(**{**fields, **changes})


def test_what_is_saved_is_read_back(tmp_path):
    study = made()
    assert study.save(tmp_path) == tmp_path / FILE
    assert Study.load(tmp_path) == study


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"contrasts": (Contrast(name="x", arm="a", reference="z"),)}, "contrast 'x': no arm 'z'; arms: a, b"),
        ({"contrasts": (Contrast(name="x", arm="a", reference="b", decides=False),)}, "no contrast decides it"),
        ({"contrasts": ()}, "at least 1 item"),
    ],
)
def test_a_study_that_cannot_be_answered_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        made(**changes)


def test_a_contrast_that_compares_with_nothing_or_means_both_is_refused():
    with pytest.raises(ValueError, match="'x' of kind rank says not with what it compares"):
        Contrast(name="x", kind="rank", arm="a")
    with pytest.raises(ValueError, match="cannot mean both yes and no"):
        Contrast(name="x", arm="a", reference="b", yes=("better",), no=("better",))


def test_a_folder_without_a_study_is_named(tmp_path):
    with pytest.raises(RecordError, match=r"study.json: no study"):
        Study.load(tmp_path)
    (tmp_path / FILE).write_text('{"name": 3}')
    with pytest.raises(RecordError, match=r"study.json: no study: name"):
        Study.load(tmp_path)


def test_committed_measurements_are_looked_for_where_they_lie():
    records = Path(__file__).resolve().parents[2] / "results" / "records"
    assert records / "stability" == STABILITY and list(STABILITY.glob("*.json"))
    assert records / "studies" == STUDIES
