"""One page for everything: a self-contained HTML file that opens with the answer and needs no server and no network.

Here is decided what it says, as plain data; `page.html.j2` is how that becomes HTML. The tables are in the HTML itself,
so that the page can be read without JavaScript; `page.js` adds sorting, filtering, the choice of columns, the plot, and
shows one comparison at a time, each with an address of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from markupsafe import Markup

from reports.analysis.answer import MOST, answer
from reports.analysis.claims import judge, ledger_table, load_claims
from reports.analysis.groups import Group
from reports.analysis.tuning import tuning_table
from reports.analysis.wording import SHOWN, metric_text
from reports.figures import style
from reports.figures.canvas import marker_path
from reports.figures.tradeoff import SAME
from reports.render.maps import expert_maps, router_maps, sensitivity_maps
from reports.render.tables import ablation_table, full_table, main_tables, paired_table, short
from reports.render.templating import html
from reports.render.titles import brief_titles, by_information, distinct_titles, documents, explained, seeds
from reports.render.verdicts import drawn_intervals, guess_tables, verdict_tables
from results.metrics import METRICS
from results.record import Record
from results.table import NOTHING, Table

TITLE = "What are mixtures of LoRA experts worth?"
# Shown at first.
FIRST = ("macro", "macro_interval", "unparseable", "trainable_params", "peak_bytes", "total_seconds", "tasks")
_HERE = Path(__file__).resolve().parent / "templates"

Links = Mapping[str, str]


def page(groups: Sequence[Group], links: Links, columns: Sequence[str] | None = None) -> str:
    """Render the whole file. links: {record's key: where its file lies as seen from the page}."""
    metrics = [
        {"name": m.name, "label": m.label, "direction": m.direction, "unit": _unit(m.unit)} for m in METRICS
    ]  # fmt: skip
    ordered = by_information(groups)
    brief, full = brief_titles(groups), distinct_titles(groups)
    style_text, script = (Markup((_HERE / f"page.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    return html(
        "page.html.j2",
        title=TITLE,
        style=style_text,
        script=script,
        comparisons=[_comparison(g, links, columns or FIRST, brief[g.name], full[g.name]) for g in ordered],
        data={"metrics": metrics, "same": SAME, "groups": {g.name: _points(g, links) for g in ordered}},
    )


def _comparison(group: Group, links: Links, columns: Sequence[str], brief: str, title: str) -> dict[str, Any]:
    """Collect what the template shows of a group: plain data by the name of its section; an empty one is left out."""
    rows = _row_links(group, links)
    shown = {"Seeds", *main_tables(group, columns)[0].columns}
    results = full_table(group, columns)
    routers, router_heat = router_maps(group)
    return {
        "name": group.name,
        "brief": brief,
        "title": title,
        "size": _size(group),
        "words": explained(group) if group.records else [],
        "rows": rows,
        "to_records": dict.fromkeys(rows, f"#{group.name}--records"),
        "answer": answer(group),
        "results": results,
        "extra": frozenset(i for i, name in enumerate(results.columns) if name not in shown),
        "guesses": guess_tables(group),
        "plot": bool(group.finished),
        "verdicts": list(zip(verdict_tables(group), drawn_intervals(group), strict=True)),
        "many": len(group.rows) > MOST,
        "paired": paired_table(group)[0],
        "ablations": ablation_table(group),
        "tuning": [short(group, table) for table in tuning_table(group)],
        "experts": expert_maps(group),
        "sensitivity": sensitivity_maps(group),
        "routers": routers,
        "router_maps": router_heat,
        **_claims(group, links),
        "environment": _environment(group),
        "records": _records(group),
        "links": links,
    }


def _size(group: Group) -> str:
    methods = _many(len(group.rows), "method")
    return f"{methods}, {_many(documents(group), 'document')}, {_many(seeds(group), 'seed')}"


def _points(group: Group, links: Links) -> list[dict[str, Any]]:
    """Collect what the plot draws: a point a finished method, in the units of the tables."""
    rows = _row_links(group, links)
    looks = style.looks((s.row.label, s.row.method) for s in group.summaries if s.row.done)
    points = []
    for s in group.summaries:
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
                    "outdone": sorted(group.outdone[s.row.label]),
                }
            )  # fmt: skip
    return points


def _claims(group: Group, links: Links) -> dict[str, Any]:
    verdicts = judge(group, load_claims())
    table = replace(ledger_table(group, verdicts), title="What was claimed, and what is here", notes=())
    judged = {v.claim["name"]: v.records for v in verdicts if v.records}
    names = {r.key: f"{row.label}, seed {r.spec.seed}" for row in group.whole.rows for r in row.done}
    return {
        "claims": table,
        "claim_links": {name: _link(group, keys, links) for name, keys in judged.items()},
        "judged": {name: [(names[k], _link(group, [k], links)) for k in keys] for name, keys in judged.items()},
    }


def _environment(group: Group) -> list[Table]:
    of_a_row = ("method", "hyperparameters", "seed")
    asked = _values({k: v for k, v in r.spec.to_json().items() if k not in of_a_row} for r in group.records)
    ran = _values(_flat(r.environment) for r in group.records)
    tables = (("What was asked", asked), ("Where it ran", ran))
    return [Table(title, ("Field", "Value"), tuple(values.items()), frozenset({0, 1})) for title, values in tables]


def _records(group: Group) -> Table:
    labels = {r.key: row.label for row in group.whole.rows for r in (*row.done, *row.failed)}
    rows = tuple(
        (
            r.key, labels.get(r.key, f"{r.spec.method}, to choose a learning rate"), str(r.spec.seed), _status(r),
            str(r.environment.get("git_commit") or NOTHING)[:12], f"{r.spec.learning_rate:g}",
            ", ".join(f"{name}={_text(value)}" for name, value in r.spec.hyperparameters.items()) or NOTHING,
        )
        for r in sorted(group.records, key=lambda r: r.key)
    )  # fmt: skip
    columns = ("Record", "Method", "Seed", "Status", "Commit", "Learning rate", "Hyperparameters")
    return Table("One record a job", columns, rows, frozenset({0, 1, 3, 4, 6}))


def _status(record: Record) -> str:
    """Say whether the job finished, and that somebody else measured it where that is so."""
    return f"{record.status}, contributed" if record.contributed else record.status


def _row_links(group: Group, links: Links) -> dict[str, str]:
    return {row.label: _link(group, [r.key for r in (*row.done, *row.failed)], links) for row in group.whole.rows}


def _link(group: Group, keys: Sequence[str], links: Links) -> str:
    """To the record itself where there is one; otherwise to the list of records below."""
    return links[keys[0]] if len(keys) == 1 and keys[0] in links else f"#{group.name}--records"


def _values(entries: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """{field: its value; of several different ones each with its number of records, of many the range}."""
    counted: dict[str, dict[str, int]] = {}
    for entry in entries:
        for name, value in entry.items():
            counts = counted.setdefault(name.replace("_", " "), {})
            counts[_text(value)] = counts.get(_text(value), 0) + 1
    shown = {}
    for name, counts in counted.items():
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


def _unit(unit: str) -> str:
    return "parameters" if unit == "params" else SHOWN.get(unit, (unit, 1.0))[0]


def _rounded(value: float) -> float:
    """Six significant digits, as in a CSV, so that redraws agree between machines."""
    return float(f"{value:.6g}")


def _many(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'s' if number != 1 else ''}"
