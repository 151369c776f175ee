"""Whatever a record holds is shown as text, in every kind of file: no tag, no link, no formula, no command."""

from __future__ import annotations

import csv
import dataclasses
import re
from html.parser import HTMLParser
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt  # comes with rich
from synthetic_records import make_failed, make_record, make_run

from reports.analysis.groups import make_groups
from reports.render.page import page
from reports.render.paper import draw_paper
from reports.render.readme import with_table
from reports.render.table import csv_text
from reports.render.templating import link
from reports.render.write import draw
from results.table import Table, escape_markdown, markdown

EVIL = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "[click](javascript:alert(1))",
    "![x](http://evil.example/x.png)",
    "[a]: javascript:alert(1)",
    "x](javascript:alert(1))[y",
    "<http://evil.example>",
    "</script><!--",
    "# heading",
    "a|b `c` **d** _e_ ~~f~~",
    "&lt;script&gt; &#60;script&#62;",
    r"\input{/etc/passwd} $x$ \[a](javascript:b)",
    "{{ 7 * 7 }}{% raw %}",
    '" onmouseover="alert(1)',
)


class Tags(HTMLParser):
    """The tags, addresses and text of an HTML file."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(html)
        self.links = [value or "" for name, value in self.attributes if name in ("href", "src")]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data: str) -> None:
        self.text += data


def rendered(text: str) -> Tags:
    """Markdown as GitHub reads it, with HTML let through."""
    return Tags(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def hostile(text: str):
    """A group whose suite, model, methods, settings, error, device and commit all hold the text."""
    environment = {"git_commit": text, "device_name": text, "cpu_model": text}
    named = {"layers": 1, "model": f"org/{text}", "suite": text}
    made = [*make_run(["frozen", "lora", "lora-smoe"], **named), make_record("molora", **named)]
    made[-1] = dataclasses.replace(made[-1], spec=dataclasses.replace(made[-1].spec, method=text))
    made += [make_record("lora", **named, hyperparameters={"target_r": 8, text: text})]
    failed = dataclasses.replace(make_failed("dora", model=f"org/{text}", suite=text), error=f"{text} {text}")
    records = [dataclasses.replace(r, environment={**r.environment, **environment}) for r in (*made, failed)]
    return make_groups(records)


@pytest.mark.parametrize("text", EVIL)
def test_the_page_has_no_tag_and_no_address_of_a_record(text):
    clean, dirty = Tags(page(hostile("harmless"), {})), Tags(page(hostile(text), {}))
    assert set(dirty.tags) == set(clean.tags) and "img" not in dirty.tags
    assert dirty.tags.count("script") == clean.tags.count("script") == 2
    assert not [name for name, _ in dirty.attributes if name.startswith("on")]
    assert {urlsplit(address).scheme for address in dirty.links} <= {"", "data"}
    assert " ".join(text.split()) in " ".join(dirty.text.split())  # shown as it is


@pytest.mark.parametrize("text", EVIL)
def test_markdown_shows_the_text_and_does_nothing(text, tmp_path):
    def files(groups, out):
        out.mkdir()
        for kind, drawn in (("main", draw), ("paper", draw_paper)):
            drawn(groups, out / kind, images=())
        readme = with_table("<!-- results:begin -->\n<!-- results:end -->\n", groups)
        found = {f.name: f.read_text() for f in out.rglob("*.md")}
        return {**found, "readme": readme}

    (group,) = hostile(text)
    clean = {name: rendered(content) for name, content in files(hostile("harmless"), tmp_path / "clean").items()}
    dirty = files([group], tmp_path / "dirty")
    assert {"main.md", "claims.md", "paper.md", "README.md", "readme"} == dirty.keys()
    for name, content in dirty.items():
        shown = rendered(content)
        assert set(shown.tags) <= set(clean[name].tags) | {"code"}, name
        assert [t for t in shown.tags if t in ("h1", "h2", "img", "a")] == [
            t for t in clean[name].tags if t in ("h1", "h2", "img", "a")
        ], name
        assert {urlsplit(address).scheme for address in shown.links} == {""} or not shown.links, name
        assert " ".join(text.split()) in " ".join(shown.text.split()), name


@pytest.mark.parametrize("text", EVIL)
def test_latex_runs_no_command_of_a_record(text, tmp_path):
    draw(hostile(text), tmp_path, images=())
    for file in tmp_path.rglob("*.tex"):
        assert file.read_text().isascii() and "input" not in re.findall(r"\\([A-Za-z]+)", file.read_text())


@pytest.mark.parametrize("cell", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1"])
def test_a_spreadsheet_runs_no_cell_and_no_heading(cell):
    text = csv_text([{cell: cell, "n": -0.5}])
    (heading, _), (value, number) = csv.reader(text.splitlines(keepends=True))
    assert heading == value == f"'{cell}" and number == "-0.5"


def test_line_breaks_of_any_kind_stay_within_their_cell(tmp_path):
    (tmp_path / "x.csv").write_text(csv_text([{"a": "1\r=2", "b": "x\n=3"}]), newline="")
    with (tmp_path / "x.csv").open(newline="") as file:
        assert [*csv.reader(file)] == [["a", "b"], ["1 =2", "x\n=3"]]


def test_numbers_stay_numbers_for_a_spreadsheet():
    text = csv_text([{"a": -1, "b": -0.25, "c": "-1.5", "d": "+2", "e": None, "f": "0.5 0.6", "g": "model-x"}])
    assert text.splitlines()[1] == "-1,-0.25,-1.5,+2,,0.5 0.6,model-x"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("trainable_params, lora-smoe (lr=0.001), +2.1 [−6.7, +10.0]",) * 2,
        ("p < 0.05 & more", "p &lt; 0.05 & more"),
        ("[a](javascript:b)", r"[a\](javascript:b)"),
        ("[a]: x", r"[a\]: x"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("two\nlines", "two lines"),
    ],
)
def test_what_is_harmless_in_markdown_stays_as_it_is_written(text, written):
    assert escape_markdown(text) == written


def test_titles_notes_and_links_are_escaped_as_cells_are():
    table = Table("<b>", ("[x](y)",), (("<i>",),), notes=("<img src=x>",))
    assert "<" not in markdown(table) and r"[x\](y)" in markdown(table)
    assert rendered(link("a](b)[c", "x y)/z.md")).links == ["x%20y%29/z.md"]
