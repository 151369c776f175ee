"""Figures can be read: nothing hides anything else, every number has its ink, and scales can be compared."""

from __future__ import annotations

import dataclasses
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.markers import MarkerStyle
from matplotlib.text import Text
from synthetic_records import SKILL, make_record, make_run

from reports import roster
from reports.analysis.groups import make_groups
from reports.analysis.verdicts import LOSS, judge_rows
from reports.figures import style
from reports.figures.forest import draw_forest
from reports.figures.gallery import figures
from reports.figures.heatmaps import maps
from reports.figures.loss import OTHERS
from reports.figures.tasks import draw_tasks
from reports.figures.tradeoff import RULE, draw_trade_off, front


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


def test_the_map_of_tasks_has_the_numbers_of_the_main_table_and_names_other_seeds():
    records = [make_record(m, 0, layers=1) for m in ("lora", "molora")]
    records += [make_record("lora-smoe", s, layers=1) for s in (0, 1)]
    (group,) = make_groups(records)
    rows, draw = figures(group)["tasks"]
    shown = {s.row.label: s.tasks for s in group.summaries}
    for r in rows:
        assert r["accuracy"] == shown[r["method"]][r["task"]][0]
        assert r["difference"] == pytest.approx(r["accuracy"] - shown["lora"][r["task"]][0])
    ax = draw().axes[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["lora", "molora", "lora-smoe\n(seeds 0, 1)"]
    assert "seed 0 where no others are named" in ax.get_title(loc="left")


def test_many_tasks_stand_below_each_other():
    tasks = [f"task_{i}" for i in range(19)]
    rows = [
        {"method": m, "seeds": "0", "task": t, "accuracy": 0.5, "against": "lora", "difference": 0.01 * i}
        for m in ("lora", "molora")
        for i, t in enumerate(tasks)
    ]
    figure = draw_tasks(rows, "T")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == tasks
    assert figure.get_size_inches()[0] < 8


def test_losses_are_of_the_seeds_in_common_and_stand_beside_their_verdict():
    records = [make_record("lora", 0, layers=1), *(make_record("lora-smoe", s, layers=1) for s in (0, 1))]
    (group,) = make_groups(records)
    rows, draw = figures(group)["loss"]
    losses = [r["loss"] for r in rows if r["method"] == "lora-smoe" and r.get("step")]
    assert losses == pytest.approx(list(records[1].losses))
    (judged,) = [r for r in rows if r["method"] == "lora-smoe" and "verdict" in r]
    (expected,) = judge_rows(group.rows, group.tasks, group.rows[0], LOSS)
    assert (judged["difference"], judged["verdict"]) == (expected.paired.value, expected.word)
    assert judged["low"] < judged["difference"] < judged["high"]
    curves, panel = draw().axes
    assert {text.get_text() for text in panel.texts} == {"reference", expected.word}
    assert any(list(line.get_xdata()) == [judged["low"], judged["high"]] for line in panel.lines)
    assert {line.get_label() for line in curves.lines} == {"lora", "lora-smoe"}


def test_of_many_curves_the_main_methods_have_colours_and_every_method_its_interval():
    (group,) = make_groups([make_record(method, layers=1) for method in roster.names()])
    curves, panel = figures(group)["loss"][1]().axes
    grey = [line for line in curves.lines if line.get_color() == OTHERS]
    coloured = {line.get_label() for line in curves.lines} - {line.get_label() for line in grey}
    assert coloured == {e.name for e in roster.METHODS if e.in_readme and e.name != "frozen"} and len(grey) > 10
    assert len({line.get_color() for line in curves.lines if line.get_label() in coloured}) > 4
    assert {t.get_text() for t in panel.get_yticklabels()} == set(roster.names()) - {"frozen"}  # it has no losses


def test_a_difference_far_beyond_the_others_is_written_and_does_not_stretch_the_axis():
    def row(method, value):
        return {
            "reference": "lora", "method": method, "family": method, "order": 0, "difference": value,
            "low": value - 0.01, "high": value + 0.01, "low_90": value - 0.008, "high_90": value + 0.008,
            "p_holm": 0.5, "verdict": "worse", "margin": 0.01,
        }  # fmt: skip

    ax = draw_forest([row("molora", 0.0), row("lora-smoe", 0.01), row("adalora", -0.9)], "T").axes[0]
    assert ax.get_xlim()[0] > -10 and "← −90" in {text.get_text() for text in ax.texts}
    assert sum(text.get_text() == "worse" for text in ax.texts) == 3


def test_error_bars_are_always_drawn_and_only_the_main_of_many_points_are_named():
    (group,) = make_groups([make_record(method, layers=1) for method in roster.names()[:11]])
    few = make_groups(make_run(layers=1))[0]
    for shown, named in ((group, {e.name for e in roster.METHODS[:11] if e.in_readme}), (few, set(SKILL))):
        ax = figures(shown)["accuracy-time"][1]().axes[0]
        assert len(ax.collections) == len(shown.rows) and "±1 st. error" in ax.get_ylabel()
        assert named <= {text.get_text() for text in ax.texts} <= {row.label for row in shown.rows}
        legend = [text.get_text() for text in ax.get_legend().get_texts()]
        assert set(legend) - {"Pareto front"} == {row.label for row in shown.rows}


def test_every_measure_has_a_panel_on_its_own_scale_with_its_reference_named():
    (group,) = make_groups(make_run(layers=1))
    rows, draw = figures(group)["learning"]
    shown = {r["measure"] for r in rows}
    panels = {ax.get_title(loc="left"): ax for ax in draw().axes}
    assert shown == set(group.judged[0]) and len(panels) == len(shown) > 1
    for r in rows:
        inside = r["verdict"] == "equivalent"
        if r["verdict"] == "reference":
            assert r["difference"] == 0 and r["low"] is None
        else:
            assert r["low"] <= r["low_90"] <= r["difference"] <= r["high_90"] <= r["high"]
            assert inside == (-r["margin"] < r["low_90"] and r["high_90"] < r["margin"])
    for ax in panels.values():
        assert [t.get_text() for t in ax.texts].count("reference") == 1


def test_a_difference_in_cost_of_less_than_five_percent_makes_nothing_cheaper():
    accuracies, costs = {"lora": 0.50, "molora": 0.52}, {"lora": 100.0, "molora": 104.0}
    assert front(costs, accuracies, {"lora": set(), "molora": set()}) == ["molora"]
    assert front({**costs, "molora": 106.0}, accuracies, {"lora": set(), "molora": set()}) == ["lora"]


def test_the_front_has_only_methods_told_apart_from_every_cheaper_one():
    costs = {"frozen": 0.0, "lora": 1.0, "molora": 2.0, "full": 3.0, "dora": 3.0}
    accuracies = {"frozen": 0.4, "lora": 0.5, "molora": 0.51, "full": 0.7, "dora": 0.69}
    outdone = {"frozen": set(), "lora": {"frozen"}, "molora": {"frozen"}, "full": {"frozen", "lora", "molora"}}
    outdone["dora"] = outdone["full"]
    # molora is more accurate than lora, but tied with it, which is cheaper; dora costs as much as full
    assert front(costs, accuracies, outdone) == ["frozen", "lora", "full"]
    tied = {**outdone, "full": {"frozen", "lora"}, "dora": set()}
    assert front(costs, accuracies, tied) == ["frozen", "lora"]


def test_a_tie_of_records_draws_no_front_and_the_caption_says_the_rule():
    first = make_record("lora", layers=1)
    (group,) = make_groups([first, dataclasses.replace(make_record("molora", layers=1), scores=first.scores)])
    rows, draw = figures(group)["accuracy-time"]
    assert sum(r["front"] for r in rows) == 1
    figure = draw()
    cheapest = min(rows, key=lambda r: r["total_seconds"])["method"]
    assert figure.get_supxlabel() == f"{RULE}: {cheapest}."
    assert "Pareto front" not in [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def test_no_two_contestants_share_colour_and_marker_whatever_further_rows_there_are():
    every = len(roster.COLOURS) * len(roster.MARKERS)
    rows = [(name, name) for name in roster.names()] + [
        (f"{name} ({i})", name) for name in roster.names() for i in (0, 1)
    ]
    rows += [(f"new-{i}", f"new-{i}") for i in range(every - len(rows))]  # as many as there are looks
    looks = style.looks(rows)
    marks = {(look["color"], look["marker"]) for look in looks.values()}
    assert len(marks) == len(rows) == len(looks)
    assert all(looks[name] == roster.look(name) for name in roster.names())


def test_no_mark_on_one_spot_hides_another_and_stars_lie_on_top():
    methods = ("lora", "lora-smoe", "molora", "random-experts", "inverse-experts")
    ax = _trade_off(*(_point(method, 1e7, 0.5) for method in methods), _point("adalora", 2e7, 0.4))
    marks = [line for line in ax.lines if line.get_marker() not in ("None", "o", "", "D", "_")]
    sizes = [line.get_markersize() / (1.5 if line.get_marker() == "*" else 1) for line in marks]
    assert len(marks) == 5 and marks[-1].get_marker() == "*"
    assert all(below - above > 1.5 for below, above in itertools.pairwise(sizes))


def test_names_at_points_do_not_overlap():
    figure = draw_trade_off(
        [_point(name, 1e7 * (1 + 0.001 * i), 0.5 + 0.001 * i) for i, name in enumerate(roster.names()[1:7])],
        "trainable_params", "T",
    )  # fmt: skip
    figure.draw_without_rendering()
    boxes = [Text.get_window_extent(text) for text in figure.axes[0].texts]
    assert len(boxes) == 6 and not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


def test_long_names_of_panels_are_broken():
    facts = {
        "sensitivity": {f"mmlu_{name}_pooled": {"model.layers.0.q_proj": 1.0} for name in ("social_sciences", "x")}
    }
    (group,) = make_groups([dataclasses.replace(make_record("lora-smoe", layers=1), facts=facts)])
    titles = [ax.get_title() for ax in maps(group)["sensitivity-lora-smoe"][1]().axes]
    assert titles[:2] == ["mmlu_social_\nsciences_pooled", "mmlu_x_pooled"]


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


FEW = ("lora", "lora-smoe", "random-experts")  # of which a forest has a single panel


@pytest.mark.parametrize("methods", [roster.names(), FEW], ids=["all", "few"])
@pytest.mark.parametrize(
    "stem", ["controls", "differences", "learning", "loss", "tasks", "accuracy-time", "accuracy-parameters"]
)
def test_nothing_lies_beyond_the_edges_of_a_figure(stem, methods):
    (group,) = make_groups([make_record(method, layers=1) for method in methods])
    with matplotlib.rc_context(style.RC):
        figure = figures(group)[stem][1]()
        figure.draw_without_rendering()
    width, height = figure.get_size_inches()
    box = figure.get_tightbbox()
    assert box.x0 >= -0.02 and box.y0 >= -0.02 and box.x1 <= width + 0.02 and box.y1 <= height + 0.02
