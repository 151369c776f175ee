"""One page for everything: a self-contained HTML file that opens with the answer and needs no server and no network.

The tables are in the HTML itself, so that the page can be read without JavaScript; `page.js` adds sorting, filtering,
the choice of columns and of a group, and the plot. `page.html`, `page.css` and `page.js` are put into one file here.
"""

from __future__ import annotations

import dataclasses
import html
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

from reports.analysis.answer import answer
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import Group
from reports.analysis.summary import summarise
from reports.analysis.tuning import tuning_table
from reports.figures import style
from reports.figures.canvas import Rows, marker_path
from reports.figures.heatmaps import expert_rows, scored_rows, sensitivity_rows
from reports.render.table import html_table
from reports.render.tables import SHOWN, ablation_table, full_table, main_tables, metric_text, paired_table
from results.metrics import METRICS
from results.table import NOTHING, Table

TITLE = "What are mixtures of LoRA experts worth?"
# Shown at first.
FIRST = ("macro", "macro_interval", "unparseable", "trainable_params", "peak_bytes", "total_seconds", "tasks")
_HERE = Path(__file__).resolve().parent / "templates"
_SCALE = "The stronger a colour stands out from the page, the more."
_LEVELS = 8  # colours of a map, `.l1` to `.l8` in page.css

Links = Mapping[str, str]


def page(groups: Sequence[Group], links: Links, columns: Sequence[str] | None = None) -> str:
    """The whole file. links: {record's key: where its file lies as seen from the page}."""
    metrics = [
        {"name": m.name, "label": m.label, "direction": m.direction, "unit": _unit(m.unit)} for m in METRICS
    ]  # fmt: skip
    data = {"metrics": metrics, "groups": {g.name: _points(g, links) for g in groups}}
    texts = {name: (_HERE / f"page.{name}").read_text(encoding="utf-8") for name in ("html", "css", "js")}
    return Template(texts["html"]).substitute(
        title=TITLE,
        style=texts["css"],
        script=texts["js"],
        head=_head(groups),
        body="\n".join(_group(g, links, columns or FIRST) for g in groups) or _nothing(),
        data=json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c"),
    )


def _head(groups: Sequence[Group]) -> str:
    if len(groups) < 2:
        return ""
    links = "".join(f'<li><a href="#{g.name}">{html.escape(g.title)}</a></li>' for g in groups)
    options = "".join(f'<option value="{g.name}">{html.escape(g.title)}</option>' for g in groups)
    return (
        f'<noscript><nav aria-label="Comparisons"><ul>{links}</ul></nav></noscript>\n<div class="controls needs-js">'
        f'<label for="group">Comparison</label> <select id="group">{options}</select></div>'
    )


def _nothing() -> str:
    return (
        '<div class="answer"><p class="verdict">No answer: there is no record yet.</p>\n'
        "<p><code>python -m benchmarks.run --suite commonsense</code> makes some.</p></div>"
    )


def _group(group: Group, links: Links, columns: Sequence[str]) -> str:
    rows = _row_links(group, links)
    parts = {
        "Answer": _answer(group),
        "Results": _results(group, rows, columns),
        "Trade-off": _plot(group),
        "Differences": _tables(group, paired_table(group)[0], rows)
        or "<p>None: there is no finished lora or molora to compare with.</p>",
        "Ablations": _tables(group, ablation_table(group), rows),
        "Learning rates": _tables(group, tuning_table(group), dict.fromkeys(rows, f"#{group.name}--records")),
        "Experts": _experts(group),
        "Sensitivity": _sensitivity(group),
        "Claims": _claims(group, links),
        "Environment": _environment(group),
        "Records": _records(group, links),
    }
    shown = {name: body for name, body in parts.items() if body}
    ids = {name: f"{group.name}--{name.lower().replace(' ', '-')}" for name in shown}
    contents = "".join(f'<li><a href="#{ids[name]}">{name}</a></li>' for name in shown)
    sections = "\n".join(
        f'<section id="{ids[name]}"{" class=answer" if name == "Answer" else ""} aria-labelledby="{ids[name]}-title">\n'
        f'<h3 id="{ids[name]}-title">{name}</h3>\n{body}\n</section>'
        for name, body in shown.items()
    )
    return (
        f'<article class="group" id="{group.name}">\n<h2>{html.escape(group.title)}</h2>\n'
        f'<nav aria-label="Sections"><ul>{contents}</ul></nav>\n{sections}\n</article>'
    )


def _answer(group: Group) -> str:
    found = answer(group)
    reasons = {"How sure": found.sure, "At what cost": found.cost, "What failed": found.failed}
    lists = "".join(
        f"<div><h4>{name}</h4><ul>{''.join(f'<li>{html.escape(text)}</li>' for text in texts)}</ul></div>\n"
        for name, texts in reasons.items()
        if texts
    )
    return f'<p class="verdict">{html.escape(found.verdict)}</p>\n<div class="reasons">\n{lists}</div>'


def _tables(group: Group, tables: Sequence[Table], rows: Links) -> str:
    return "\n".join(html_table(_short(group, table), rows, "methods sortable") for table in tables)


def _results(group: Group, rows: Links, columns: Sequence[str]) -> str:
    shown = set(main_tables(group, columns)[0].columns)
    table = _short(group, full_table(group, columns))
    extra = frozenset(i for i, name in enumerate(table.columns) if name not in shown)
    return (
        '<div class="controls needs-js"><label>Method contains <input type="search"></label> <output></output>\n'
        '<details class="choice"><summary>Columns</summary><fieldset><legend>Shown</legend></fieldset></details>'
        "</div>\n"
        f"{html_table(table, rows, 'methods results sortable', extra)}\n"
        f'<p class="note">Figures and the numbers behind each: <a href="{group.name}/main.md">main.md</a>; '
        f'the table: <a href="{group.name}/main.csv">main.csv</a>; as LaTeX: table1.tex and following beside them.</p>'
    )


def _plot(group: Group) -> str:
    if not group.finished:
        return ""
    return (
        "<noscript><p>The plot needs JavaScript; its numbers are in the table above.</p></noscript>\n"
        '<figure class="plot needs-js">\n<div class="controls"><label>Vertical <select data-axis="y"></select></label> '
        '<label>Horizontal <select data-axis="x"></select></label> '
        '<label><input type="checkbox"> horizontal axis logarithmic</label></div>\n'
        '<div class="drawing"></div>\n<figcaption aria-live="polite"></figcaption>\n</figure>'
    )


def _points(group: Group, links: Links) -> list[dict[str, Any]]:
    """What the plot draws: a point a finished method, in the units of the tables."""
    rows = _row_links(group, links)
    looks = style.looks((s.row.label, s.row.method) for s in summarise(group) if s.row.done)
    points = []
    for s in summarise(group):
        if s.row.done:
            look = looks[s.row.label]
            values = {
                m.name: [_rounded(value * SHOWN.get(m.unit, ("", 1.0))[1]), metric_text(m, value)]
                for m in METRICS
                if (value := s.metrics[m.name]) is not None
            }
            interval = [_rounded(100 * bound) for bound in s.macro_interval] if s.macro_interval else None
            points.append(
                {
                    "label": s.row.label, "link": rows[s.row.label], "colour": look["color"],
                    "path": marker_path(look["marker"]), "interval": interval, "values": values,
                }
            )  # fmt: skip
    return points


def _experts(group: Group) -> str:
    rows = expert_rows(group)
    if not rows:
        return ""
    most = max(1, *(r["experts"] for r in rows))
    found = []
    for method in dict.fromkeys(r["method"] for r in rows):
        own = [r for r in rows if r["method"] == method]
        used = sum(r["experts"] > 0 for r in own)
        about = f"{sum(r['experts'] for r in own):,} experts in {used:,} of {len(own):,} blocks"
        found.append(_heat_map(method, about, own, "experts", lambda v: math.ceil(_LEVELS * v / most), str))
    note = f"Experts of each block, layers downwards and projections across, first seed. {_SCALE}"
    return f'<p class="note">{note}</p>\n<div class="maps">\n{"".join(found)}</div>'


def _sensitivity(group: Group) -> str:
    found = []
    for row in scored_rows(group):
        rows = sensitivity_rows(group, row.label)
        positive = [math.log(r["sensitivity"]) for r in rows if r["sensitivity"] > 0]
        if not positive:
            continue
        low, width = min(positive), (max(positive) - min(positive)) or 1.0

        def level(value: float, low: float = low, width: float = width) -> int:
            return 1 + min(_LEVELS - 1, int(_LEVELS * (math.log(value) - low) / width)) if value > 0 else 0

        found.append(f'<h4>{html.escape(row.label)}</h4>\n<div class="maps">\n')
        for task in dict.fromkeys(r["task"] for r in rows):
            own = [r for r in rows if r["task"] == task]
            top = max(own, key=lambda r: r["sensitivity"])
            about = f"highest: layer {top['layer']} {top['projection']}, {_brief(top['sensitivity'])}"
            found.append(_heat_map(task, about, own, "sensitivity", level, _brief, "quiet"))
        found.append("</div>\n")
    note = (
        f"Mean squared gradient norm of each block by task, first seed, one logarithmic scale. {_SCALE} "
        "A map that is clicked, or reached with the Tab key, shows its numbers."
    )
    return f'<p class="note">{note}</p>\n{"".join(found)}' if found else ""


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _heat_map(
    name: str,
    about: str,
    rows: Rows,
    column: str,
    level: Callable[[Any], int],
    text: Callable[[Any], str],
    kind: str = "",
) -> str:
    """A table of layers by projections; a cell holds its number, which a quiet map shows in focus and in print."""
    layers, projections = ([*dict.fromkeys(r[key] for r in rows)] for key in ("layer", "projection"))
    values = {(r["layer"], r["projection"]): r[column] for r in rows}
    head = "".join(f'<th scope="col">{html.escape(p)}</th>' for p in projections)
    body = []
    for layer in layers:
        cells = ""
        for value in (values.get((layer, p)) for p in projections):
            inside = "" if value is None else f"<span>{text(value)}</span>" if kind else text(value)
            cells += '<td class="none"></td>' if value is None else f'<td class="l{level(value)}">{inside}</td>'
        body.append(f'<tr><th scope="row">{layer}</th>{cells}</tr>')
    label = html.escape(f"{name}: {about}")
    return (
        f"<figure><figcaption><strong>{html.escape(name)}</strong> {html.escape(about)}</figcaption>\n"
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table class="heat {kind}">'
        f'<thead><tr><th scope="col">layer</th>{head}</tr></thead>\n<tbody>{"".join(body)}</tbody></table></div>'
        "</figure>\n"
    )


def _claims(group: Group, links: Links) -> str:
    verdicts = judge(group, load_claims())
    table = dataclasses.replace(ledger_table(group, verdicts), title="What was claimed, and what is here", notes=())
    judged = {v.claim["name"]: v.records for v in verdicts if v.records}
    text = html_table(table, {name: _link(group, keys, links) for name, keys in judged.items()}, "prose")
    names = {r.key: f"{row.label}, seed {r.spec.seed}" for row in group.whole.rows for r in row.done}
    items = "".join(
        f"<li>{html.escape(name)}: {'; '.join(_anchor(names[k], _link(group, [k], links)) for k in keys)}</li>"
        for name, keys in judged.items()
    )
    return f"{text}<details><summary>Records of each claim</summary><ul>{items}</ul></details>" if items else text


def _anchor(text: str, link: str) -> str:
    return f'<a href="{html.escape(link)}">{html.escape(text)}</a>'


def _environment(group: Group) -> str:
    own = ("method", "hyperparameters", "seed")
    asked = _values({k: v for k, v in r.spec.to_json().items() if k not in own} for r in group.records)
    found = _values(_flat(r.environment) for r in group.records)
    tables = (("What was asked", asked), ("Where it ran", found))
    return "\n".join(
        html_table(Table(title, ("Field", "Value"), tuple(values.items()), frozenset({0, 1})), kind="prose")
        for title, values in tables
    )


def _records(group: Group, links: Links) -> str:
    labels = {r.key: row.label for row in group.whole.rows for r in (*row.done, *row.failed)}
    rows = tuple(
        (
            r.key, labels.get(r.key, f"{r.spec.method}, to choose a learning rate"), str(r.spec.seed), r.status,
            str(r.environment.get("git_commit") or NOTHING)[:12], f"{r.spec.learning_rate:g}",
            ", ".join(f"{name}={_text(value)}" for name, value in r.spec.hyperparameters.items()) or NOTHING,
        )
        for r in sorted(group.records, key=lambda r: r.key)
    )  # fmt: skip
    columns = ("Record", "Method", "Seed", "Status", "Commit", "Learning rate", "Hyperparameters")
    return html_table(Table("One record a job", columns, rows, frozenset({0, 1, 3, 4, 6})), links, "prose sortable")


def _row_links(group: Group, links: Links) -> dict[str, str]:
    return {row.label: _link(group, [r.key for r in (*row.done, *row.failed)], links) for row in group.whole.rows}


def _link(group: Group, keys: Sequence[str], links: Links) -> str:
    """To the record itself where there is one; otherwise to the list of records below."""
    return links[keys[0]] if len(keys) == 1 and keys[0] in links else f"#{group.name}--records"


def _values(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """{field: its value; of several different ones each with its number of records, of many the range}."""
    found: dict[str, dict[str, int]] = {}
    for entry in entries:
        for name, value in entry.items():
            counts = found.setdefault(name.replace("_", " "), {})
            counts[_text(value)] = counts.get(_text(value), 0) + 1
    shown = {}
    for name, counts in found.items():
        ordered = sorted(counts)
        several = "; ".join(f"{value} ({counts[value]})" for value in ordered)
        shown[name] = ordered[0] if len(ordered) == 1 else several if len(ordered) <= 4 else _span(ordered)
    return shown


def _span(ordered: Sequence[str]) -> str:
    return f"{ordered[0]} to {ordered[-1]} ({len(ordered)} values)"


def _flat(environment: Mapping[str, Any]) -> dict[str, Any]:
    """Versions get a field each."""
    flat: dict[str, Any] = {}
    for name, value in environment.items():
        flat.update({f"{name}: {k}": v for k, v in value.items()} if isinstance(value, Mapping) else {name: value})
    return flat


def _text(value: Any) -> str:
    if value is None:
        return "not recorded"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return ("no", "yes")[value] if isinstance(value, bool) else str(value)


def _short(group: Group, table: Table) -> Table:
    """The group's name is in the heading above."""
    return dataclasses.replace(table, title=table.title.removesuffix(f": {group.title}"))


def _unit(unit: str) -> str:
    return "parameters" if unit == "params" else SHOWN.get(unit, (unit, 1.0))[0]


def _rounded(value: float) -> float:
    """Six significant digits, as in a CSV, so that redraws agree between machines."""
    return float(f"{value:.6g}")
