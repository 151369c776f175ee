"""Figures can be read: nothing hides anything else, every number has its ink, and scales can be compared."""

from __future__ import annotations

import dataclasses
import itertools
import re

import matplotlib
import numpy as np
import pytest
from matplotlib.markers import MarkerStyle
from synthetic_records import make_record, make_run

from reports import roster
from reports.analysis.groups import make_groups
from reports.figures import style
from reports.figures.gallery import figures
from reports.figures.heatmaps import maps
from reports.figures.tradeoff import draw_trade_off


def _drawn(stem: str):
    (group,) = make_groups(make_run(layers=14))
    return {**figures(group), **maps(group)}[stem][1]()


def _point(method: str, params: float, accuracy: float, front: int = 0):
    return {
        "method": method, "family": method, "trainable_params": params, "macro_accuracy": accuracy, "stderr": 0.01,
        "front": front, "seeds": "0.5",
    }  # fmt: skip


def _trade_off(*points):
    figure = draw_trade_off(list(points), "trainable_params", "T")
    figure.draw_without_rendering()
    return figure.axes[0]


@pytest.mark.parametrize(("low", "high"), [(9.77e6, 14.7e6), (10.36e6, 10.37e6), (1e6, 4.9e6), (4e5, 2e8)])
def test_an_axis_of_parameters_has_at_least_three_labels(low, high):
    ax = _trade_off(_point("lora", low, 0.5), _point("molora", high, 0.6))
    left, right = ax.get_xlim()
    inside = [tick for tick in ax.get_xticks() if left <= tick <= right]
    assert 3 <= len(inside) <= 10


def test_a_front_is_named_where_it_can_be_seen():
    def names(*points):
        return [text.get_text() for text in _trade_off(*points).get_legend().get_texts()]

    far = _point("adalora", 15e6, 0.4)
    assert "Pareto front" in names(_point("lora", 9e6, 0.5, 1), _point("molora", 11e6, 0.6, 1), far)
    assert "Pareto front" not in names(_point("lora", 10e6, 0.5, 1), _point("molora", 10.01e6, 0.5001, 1), far)
    assert "Pareto front" not in names(_point("lora", 9e6, 0.6, 1), far)


def test_equal_points_are_seen_as_two():
    ax = _trade_off(_point("lora", 1e7, 0.5), _point("molora", 1e7, 0.5))
    below, above = [line.get_markersize() for line in ax.lines if line.get_marker() in ("s", "^")]
    assert below > above + 3


def test_no_mark_of_a_phase_hides_another():
    points = np.stack(np.meshgrid(*[np.linspace(-0.8, 0.8, 161)] * 2), -1).reshape(-1, 2)
    made = [MarkerStyle(marker) for marker in style.PHASE_MARKERS.values()]
    inside = [m.get_path().transformed(m.get_transform()).contains_points(points) for m in made]
    for below, above in itertools.combinations(inside, 2):
        assert (below & ~above).sum() > 0.15 * below.sum()


def test_panels_of_differences_share_their_scale():
    one, other = _drawn("differences").axes
    assert one.get_xlim() == other.get_xlim()


def test_the_map_of_tasks_says_the_sign_of_each_difference():
    (group,) = make_groups(make_run(layers=1))
    rows, draw = figures(group)["tasks"]
    ax = draw().axes[0]
    for row, text in zip(rows, ax.texts, strict=True):
        number, *difference = text.get_text().split("\n")
        assert number == f"{100 * row['accuracy']:.1f}"
        wanted = [] if row["method"] == row["against"] else [f"{100 * row['difference']:+z.1f}".replace("-", "−")]
        assert difference == wanted


@pytest.mark.parametrize("name", ["PuOr", "cividis"])
def test_ink_reaches_the_contrast_of_small_text(name):
    def luminance(colour):
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour[:3]]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    for background in matplotlib.colormaps[name](np.linspace(0, 1, 64)):
        dark, light = sorted([luminance(background), 1.0 if style.ink(background) == "white" else 0.0])
        assert (light + 0.05) / (dark + 0.05) > 4.5


def test_numbers_in_a_map_can_be_read_and_its_bar_is_not_crowded():
    figure = _drawn("experts")
    figure.draw_without_rendering()
    *panels, bar = figure.axes
    assert bar.yaxis.get_minorticklocs().size == 0
    cell = min(ax.get_window_extent().height / 14 for ax in panels if ax.get_visible())
    sizes = {text.get_fontsize() for ax in panels for text in ax.texts}
    assert min(sizes) >= 6.5 and max(sizes) <= cell * 72 / figure.dpi


def test_ranks_of_three_digits_stay_in_their_cells():
    record = make_record("adalora", layers=14)
    ranks = dict.fromkeys((f"model.layers.{i}.{p}_proj" for i in range(14) for p in ("q", "k", "v", "up")), 128)
    (group,) = make_groups([dataclasses.replace(record, facts={"ranks": ranks})])
    figure = maps(group)["ranks"][1]()
    figure.draw_without_rendering()
    ax = figure.axes[0]
    assert max(text.get_window_extent().width for text in ax.texts) < ax.get_window_extent().width / 4


def test_differences_by_task_and_losses_are_of_the_seeds_in_common():
    records = [make_record("lora", 0, layers=1), *(make_record("lora-smoe", s, layers=1) for s in (0, 1))]
    (group,) = make_groups(records)
    drawn = figures(group)
    tasks = [r for r in drawn["tasks"][0] if r["method"] == "lora-smoe"]
    for r in tasks:
        smoe, lora = (record.scores[r["task"]].value for record in (records[1], records[0]))
        assert r["difference"] == pytest.approx(smoe - lora)
    assert any(r["accuracy"] != pytest.approx(records[1].scores[r["task"]].value) for r in tasks)
    losses = [r["loss"] for r in drawn["loss"][0] if r["method"] == "lora-smoe"]
    assert losses == pytest.approx(list(records[1].losses))


def test_many_points_leave_their_error_bars_to_the_axis_label():
    (group,) = make_groups([make_record(method, layers=1) for method in roster.names()[:11]])
    crowded, few = (figures(g)["accuracy-time"][1]().axes[0] for g in (group, make_groups(make_run(layers=1))[0]))
    assert not crowded.collections and few.collections
    assert re.search(r"st\. errors \d\.\d to \d\.\d", crowded.get_ylabel()) and "±1" in few.get_ylabel()


def test_the_figure_of_mixing_counts_the_documents_of_each_task_in_every_step():
    counts = {"boolq": "2 0 1 4", "piqa": "2 4 3 0"}
    data = {task: {"train_hash": "-", "step_documents": text} for task, text in counts.items()}
    record = make_record("lora", layers=1)
    (group,) = make_groups([dataclasses.replace(record, data=data)])
    rows, draw = figures(group)["mixing"]
    assert [r["documents"] for r in rows] == [2, 2, 0, 4, 1, 3, 4, 0]
    assert [r["tasks_a_step"] for r in rows[::2]] == [2, 1, 2, 1]
    assert "1.5 of 2 tasks a step" in draw().axes[0].get_title(loc="left")
    assert "mixing" not in figures(make_groups([record])[0])  # of schema 1


def test_many_steps_are_shown_as_means_over_ranges():
    record = make_record("lora", layers=1)
    data = {"boolq": {"train_hash": "-", "step_documents": " ".join(["1", "3"] * 250)}}
    (group,) = make_groups([dataclasses.replace(record, data=data)])
    rows, _ = figures(group)["mixing"]
    assert len(rows) == 40 and rows[0]["first_step"] == 1 and rows[-1]["last_step"] == 500
    assert all(1.8 < r["documents"] < 2.2 for r in rows)
