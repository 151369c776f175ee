"""One table for the gate, the speed page, the cost laws, the GPU pass and the reports."""

from __future__ import annotations

import io
import subprocess
import sys

from rich.console import Console

from results.table import Table, markdown, plain_markdown, terminal_table, terminal_width

TABLE = Table("T", ("name", "time (s)"), (("a|b", "<= 1"), ("c*d", "2")), bold=frozenset({(1, 1)}), notes=("n",))


def printed(**options):
    console = Console(file=io.StringIO(), width=60, force_terminal=False)
    console.print(terminal_table(TABLE, **options))
    return console.file.getvalue()


def test_markdown_escapes_every_cell_and_marks_the_best():
    assert markdown(TABLE) == (
        "## T\n\n| name | time (s) |\n| :--- | ---: |\n| a\\|b | &lt;= 1 |\n| c\\*d | **2** |\n\nn\n"
    )


def test_plain_markdown_keeps_bounds_readable_and_a_newline_out_of_the_row():
    table = Table("T", ("x", "y"), (("a|b\nc", "<= 1"),))
    assert plain_markdown(table) == "| x | y |\n| --- | --- |\n| a\\|b c | <= 1 |\n"
    assert plain_markdown(table, "---").splitlines()[1] == "|---|---|"


def test_the_terminal_shows_every_cell_and_the_width_it_needs():
    text = printed()
    assert max(map(len, text.splitlines())) <= terminal_width(TABLE)
    assert all(part in text for part in ("T\n", "a|b", "<= 1", "c*d", "(s)", "n\n"))
    assert "┃ name ┃ time (s) ┃" in printed(boxed=True)


def test_a_table_is_plain_data_until_it_is_shown():
    code = "import sys, results.table; print({'rich', 'jinja2', 'torch'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"
