"""The column, the measure and the figure that reports/README.md shows work when they are put where it says."""

from __future__ import annotations

import dataclasses
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from synthetic_records import make_run

from reports.analysis import measures, verdicts
from reports.analysis.groups import make_groups
from reports.figures.gallery import figures
from reports.render import tables
from reports.render.tables import main_csv, main_tables
from results import metrics

README = Path(__file__).resolve().parents[2] / "reports" / "README.md"
SHOWN = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def group():
    noise = np.random.default_rng(0)
    records = []
    for made in make_run(["lora", "molora"], (0, 1), layers=1, count=8):
        scores = {}
        for task, score in made.scores.items():
            drawn = tuple(tuple(map(float, -noise.uniform(1, 9, 2))) for _ in range(8))
            choices = {"loglikelihoods": drawn, "choice_bytes": ((4, 4),) * 8, "gold": (0,) * 8}
            scores[task] = dataclasses.replace(score, **choices)
        records.append(dataclasses.replace(made, scores=scores))
    (made,) = make_groups(records)
    return made


def shown(start):
    (source,) = (block for block in SHOWN if re.search(start, block))
    return source


@pytest.fixture
def everywhere(monkeypatch):
    """Give a name another value in every module of the reports and records that has it."""

    def put(name, value):
        for module in [m for n, m in sys.modules.items() if n.split(".")[0] in ("reports", "results")]:
            if hasattr(module, name):
                monkeypatch.setattr(module, name, value)

    return put


def test_a_column_is_one_row_of_metrics_and_a_name_in_a_table(everywhere, monkeypatch):
    row = eval(shown(r"^Metric"), dict(vars(metrics)))
    everywhere("METRICS", (*metrics.METRICS, row))
    monkeypatch.setattr(tables, "ACCURACY", (*tables.ACCURACY, "last_loss"))
    made = group()
    assert main_csv(made)[0]["last_loss"] == np.mean([r.losses[-1] for r in made.finished[0].done])
    accuracy, *_ = main_tables(made)
    assert accuracy.columns[-1] == "Last loss (nats)" and float(accuracy.rows[0][-1]) > 0
    assert main_tables(made, ["macro", "last_loss"])[0].columns[-1] == "Last loss (nats)"


def test_a_measure_is_an_entry_of_measures_and_gets_verdicts_as_a_headline(everywhere):
    names = dict(vars(measures))
    exec(shown(r"^SURPRISE"), names)
    everywhere("MEASURES", (*measures.MEASURES, names["SURPRISE"]))
    everywhere("HEADLINES", (*measures.HEADLINES, names["SURPRISE"]))
    made = group()
    assert {r["measure"] for r in measures.measure_rows(made.rows, made.tasks)} >= {"surprise", "accuracy"}
    (judged,) = verdicts.judge_all(made.rows, made.tasks, made.finished[0])["surprise"]
    assert judged.row.label == "molora" and judged.paired.method is not None
    rows, draw = figures(made)["learning"]
    assert "surprise" in {r["measure"] for r in rows} and isinstance(draw(), Figure)


def test_a_figure_is_two_functions_and_two_lines_of_the_gallery():
    names: dict = {}
    exec(shown("def size_rows"), names)
    drawn: dict = {}
    exec(shown(r"^sizes = "), {**names, "group": group(), "add": lambda name, *rest: drawn.update({name: rest})})
    rows, draw = drawn["sizes"]
    assert [r["method"] for r in rows] == ["lora", "molora"] and isinstance(draw(), Figure)
