"""Tables say what the records say, in every format, and stay honest when little is there."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace

import pytest
from rich.console import Console
from synthetic_records import TASKS, make_failed, make_record, make_run

from reports.analysis import stats
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import make_groups
from reports.render.table import csv_text, html_table, latex
from reports.render.tables import compact_table, full_table, main_csv, main_tables, paired_table
from reports.render.terminal import terminal
from results.metrics import macro_accuracy
from results.table import Table, markdown


def _group(records):
    (group,) = make_groups(records)
    return group


def _text(records, width):
    console = Console(file=io.StringIO(), width=width)
    console.print(terminal(records, width))
    return console.file.getvalue()


def test_main_table_shows_percent_with_error_and_marks_the_best():
    group = _group(make_run())
    accuracy, parameters, _ = main_tables(group)
    best = max(group.rows, key=lambda row: macro_accuracy(row.done[0]))
    (where,) = accuracy.bold
    assert accuracy.rows[where[0]][0] == best.label
    assert f"{100 * macro_accuracy(best.done[0]):.1f} ±" in accuracy.rows[where[0]][where[1]]
    assert "embedded split, not comparable with published numbers" in " ".join(accuracy.notes)
    assert "One seed" in " ".join(accuracy.notes)
    assert "A true difference to lora in the macro mean below" in " ".join(accuracy.notes)
    lora = next(row for row in parameters.rows if row[0] == "lora")
    assert lora[1] == "2,442,240" and lora[2] == "–"


def test_the_interval_of_the_macro_mean_is_a_column_and_in_the_csv():
    group = _group(make_run())
    (table,) = main_tables(group, ["macro_interval"])
    lora = next(row for row in main_csv(group) if row["method"] == "lora")
    margin = 1.959964 * lora["macro_stderr"]
    assert lora["macro_low"] == pytest.approx(lora["macro_accuracy"] - margin)
    assert lora["macro_high"] == pytest.approx(lora["macro_accuracy"] + margin)
    shown = next(row for row in table.rows if row[0] == "lora")
    assert shown == ("lora", f"{100 * lora['macro_low']:.1f} to {100 * lora['macro_high']:.1f}")
    assert "±1.96" in " ".join(table.notes) and "±1.96" not in markdown(compact_table(group))
    assert stats.interval(0.99, 0.1)[1] == 1.0 and stats.interval(0.5, None) is None


def test_every_measured_number_has_a_place_in_the_main_tables():
    headings = [name for table in main_tables(_group(make_run())) for name in table.columns]
    for column in (
        "95% interval", "Trainable", "After pruning", "Experts", "Router", "Active per token", "Total", "Adapter (MB)",
        "Peak memory (MB)", "Peak, allocate (MB)", "Time (s)", "Time, train (s)", "Train speed (tokens/second)",
        "Evaluate speed (tokens/second)",
    ):  # fmt: skip
        assert headings.count(column) == 1
    full = full_table(_group(make_run()), ["router_params", "boolq"])
    assert full.columns[:5] == ("Method", "Seeds", "Router", "boolq", "Macro mean")
    assert set(headings) <= set(full.columns) and len(set(full.columns)) == len(full.columns)


def test_the_share_of_unparseable_answers_is_shown_where_answers_were_written():
    records = make_run(["lora", "molora"])
    written = [
        replace(r, scores={t: replace(s, all_metrics={"unparseable": 0.25}) for t, s in r.scores.items()})
        for r in records
    ]
    for group, wanted in ((_group(records), False), (_group(written), True)):
        tables = [main_tables(group)[0], compact_table(group), full_table(group, ["macro"])]
        assert all(("Unparseable (%)" in table.columns) is wanted for table in tables)
        assert ("Unparseable" in _text(group.records, 200)) is wanted
        assert ("counts as wrong" in markdown(tables[0])) is wanted
        if wanted:
            assert tables[0].rows[0][tables[0].columns.index("Unparseable (%)")] == "25.0"


def test_ties_are_marked_in_the_macro_column():
    text = markdown(main_tables(_group(make_run()))[0])
    assert "≈ |" in text and "max-T test over documents and all pairs" in text


def test_hub_results_carry_no_embedded_note():
    assert "embedded" not in markdown(compact_table(_group(make_run(source="hub"))))


def test_a_failed_job_is_a_row_that_says_why():
    text = markdown(main_tables(_group([*make_run(), make_failed("dora")]))[0])
    row = next(line for line in text.splitlines() if line.startswith("| dora"))
    assert "failed after load: ValueError: budget \\| of 3 is impossible" in row and row.count("–") >= 9


def test_csv_holds_fractions_and_leaves_the_unknown_empty():
    rows = list(csv.DictReader(io.StringIO(csv_text(main_csv(_group([*make_run(), make_failed("dora")]))))))
    lora = next(row for row in rows if row["method"] == "lora")
    assert 0 < float(lora["macro_accuracy"]) < 1 and lora["after_pruning_params"] == ""
    assert lora["trainable_params"] == "2442240" and set(TASKS) <= set(lora)
    best, *others = sorted(rows, key=lambda row: -float(row["macro_accuracy"] or 0))
    assert best["best_p"] == "" and all(0 < float(row["best_p"]) <= 1 for row in others if row["status"] == "done")
    dora = next(row for row in rows if row["method"] == "dora")
    assert dora["status"] == "failed" and dora["macro_accuracy"] == "" and "budget" in dora["note"]


def test_paired_table_compares_with_lora_and_molora():
    tables, rows = paired_table(_group(make_run()))
    assert [t.title.split(":")[0] for t in tables] == ["Difference to lora", "Difference to molora"]
    assert len(rows) == 8 and all(row["low"] <= row["difference"] <= row["high"] for row in rows)
    assert all(row["p_holm"] >= row["p"] for row in rows)
    assert paired_table(_group([make_record("adalora")])) == ([], [])


def test_a_device_in_use_by_somebody_else_is_said_below_the_costs():
    idle = make_record("lora", env={"device_busy_bytes": None})
    busy = [
        make_record("molora", env={"device_busy_bytes": 600e6}),
        make_record("dora", env={"device_busy_bytes": 9e9}),
    ]
    assert "Somebody else" not in markdown(main_tables(_group([idle]))[2])
    text = markdown(main_tables(_group([idle, *busy]))[2])
    assert "Somebody else used the device when 2 of 3 records were measured (at most 9,000 MB" in text
    assert "resident memory of the process" in text


def test_columns_can_be_chosen_and_unknown_ones_are_named():
    (table,) = main_tables(_group(make_run()), ["macro", "boolq", "router_params"])
    assert table.columns == ("Method", "Macro mean", "boolq", "Router")
    turned = main_tables(_group(make_run()), ["router_params", "boolq", "macro_interval", "macro"])[0]
    assert turned.columns == ("Method", "Router", "boolq", "95% interval", "Macro mean")
    with pytest.raises(ValueError, match="unknown metric 'router_parms'; did you mean router_params"):
        main_tables(_group(make_run()), ["router_parms"])


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_terminal_table_fits_its_width_and_names_every_method_and_task(width):
    text = _text([*make_run(seeds=(0, 1)), make_failed("dora")], width)
    assert max(map(len, text.splitlines())) <= width
    assert all(
        name in text for name in ("frozen", "lora-smoe", "dora", "openbookqa", "winogrande", "failed after load")
    )


def test_terminal_never_fails_on_little():
    assert "No record" in _text([], 80)
    assert "failed" in _text([make_failed("lora")], 80)
    assert "lora" in _text([make_record("lora")], 80)


def test_terminal_splits_what_may_not_be_mixed_instead_of_refusing():
    records = [make_record("lora"), make_record("molora", dtype="float32")]
    with pytest.warns(UserWarning, match="dtype"):
        text = _text(records, 200)
    assert text.count("commonsense, smollm2-135m") == 2


def test_only_failures_draw_an_honest_table():
    group = _group([make_failed("lora"), make_failed("molora")])
    text = "\n".join(markdown(t) for t in main_tables(group))
    assert text.count("failed after load") >= 2 and "**" not in text
    assert "not known" in text


def test_markup_in_text_is_escaped_in_every_format():
    table = Table("A & B_1 <x>", ("M|1", "50%"), (("a_b|c<d>", "1 ± 2 ≈"),), bold=frozenset({(0, 1)}), notes=("n\n2",))
    assert "M\\|1" in markdown(table) and "a_b\\|c&lt;d&gt;" in markdown(table)
    assert "<x>" not in html_table(table) and "<strong>1 ± 2 ≈</strong>" in html_table(table)
    text = latex(table, "x")
    assert r"A \& B\_1 \textless{}x\textgreater{}" in text and r"\textbf{1 $\pm$ 2 $\approx$}" in text
    assert r"50\%" in text


def test_latex_is_plain_ascii_with_balanced_environments_and_a_cell_for_every_column():
    evil = make_failed("dora", error="ValueError: 50% of a_b & {c} ≈ ± − é → [x] #1 $ ^ ~ \\ \x1b")
    group = _group([*make_run(), evil])
    for table in [*main_tables(group), *paired_table(group)[0], ledger_table(group, judge(group, load_claims()))]:
        text = latex(table, "main")
        assert text.isascii() and text.replace("\n", "").isprintable()
        begun, ended = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
        assert begun == ["table", "tabular"] and ended == ["tabular", "table"]
        plain = re.sub(r"\\[{}]", "", text)
        assert plain.count("{") == plain.count("}")
        body = [line for line in text.splitlines() if line.endswith(r" \\")]
        assert len(body) == 1 + len(table.rows)
        assert all(line.replace(r"\&", "").count("&") == len(table.columns) - 1 for line in body)
        assert not re.search(r"(?<!\\)[%#_~^]", "".join(body))
        assert text.count(r"\toprule") == text.count(r"\midrule") == text.count(r"\bottomrule") == 1
    row = next(line for line in latex(main_tables(group)[0], "x").splitlines() if line.startswith("dora"))
    assert r"50\% of a\_b \& \{c\} $\approx$ $\pm$ $-$ e ? {[}x{]} \#1 \$" in row


def test_latex_compiles_where_a_tex_is(tmp_path):
    if not shutil.which("pdflatex"):
        pytest.skip("no pdflatex")
    group = _group([*make_run(), make_failed("dora")])
    tables = [*main_tables(group), *paired_table(group)[0], ledger_table(group, judge(group, load_claims()))]
    text = "".join(latex(table, str(i)) for i, table in enumerate(tables))
    document = rf"\documentclass{{article}}\usepackage{{booktabs,graphicx}}\begin{{document}}{text}\end{{document}}"
    (tmp_path / "t.tex").write_text(document)
    subprocess.run(["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"], cwd=tmp_path, check=True)


def test_latex_breaks_long_headings_and_puts_notes_below():
    text = latex(Table("T", ("Method", "Peak, train (MB)", "arc_easy"), (("x", "1", "2"),), notes=("10⁶ bytes",)), "l")
    assert r"Method & \shortstack[r]{Peak,\\train\\(MB)} & \shortstack[r]{arc\\easy} \\" in text
    assert text.index(r"\end{tabular}") < text.index("10$^6$ bytes") and text.startswith(r"% \usepackage{booktabs")


def test_html_links_the_numbers_of_a_row_and_hides_nothing_by_itself():
    table = Table("T", ("Method", "A", "B"), (("x", "1", "–"), ("y & z", "2", "3")))
    text = html_table(table, {"x": "r.json?a&b"}, "kind", frozenset({2}))
    assert text.count('href="r.json?a&amp;b"') == 2 and text.count("tabindex=-1") == 1  # the method and one number
    assert '<th scope="row">y &amp; z</th>' in text and '<th scope="col" class="number extra">B</th>' in text
    assert "<caption>T</caption>" in text and "hidden" not in text
    assert "no finished record" in html_table(Table("T", ("Method",), ()))


def test_a_pipe_marks_the_best_by_an_asterisk_and_a_terminal_by_bold():
    records = make_run(["lora", "molora"])
    best = max(records, key=macro_accuracy).spec.method

    def lines(bold):
        console = Console(file=io.StringIO(), width=200)
        console.print(terminal(records, 200, bold=bold))
        return console.file.getvalue()

    (marked,) = [line for line in lines(False).splitlines() if " * " in f"{line} " and "highest" not in line]
    assert marked.split()[0] == best and "*: highest macro mean" in lines(False) and "Bold" not in lines(False)
    assert " * " not in lines(True) and "Bold: highest macro mean" in lines(True)
