"""Keeps the table in the README equal to the committed records: only the text between two markers is ever changed.

The opening marker may name the group to show, `<!-- results:begin NAME -->`; without a name it is the committed group
with the fewest training documents, which is what the default command produces. Of its contestants the main five and
the controls are shown, and compared among themselves; the whole report has them all. What a GPU said stands between
markers of its own, `<!-- card:begin -->`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from reports import roster
from reports.analysis.groups import Group
from reports.render.tables import compact_table
from results.names import unknown
from results.table import escape_markdown, markdown

_BLOCK = re.compile(r"(<!-- results:begin(?: (?P<name>\S+))? -->\n)(.*?)(<!-- results:end -->)", re.DOTALL)

_CARD = re.compile(r"(<!-- card:begin -->\n).*?(<!-- card:end -->)", re.DOTALL)


class ReadmeError(ValueError):
    """The README has no place for the table, or there is no such group; the message says which."""


def with_table(text: str, groups: Sequence[Group], name: str | None = None) -> str:
    """`text` with a fresh table between its markers. Raises ReadmeError without markers or without the group."""
    blocks = _BLOCK.findall(text)
    if len(blocks) != 1:
        raise ReadmeError(
            f"expected one '<!-- results:begin -->' ... '<!-- results:end -->' block, found {len(blocks)}"
        )
    match = _BLOCK.search(text)
    assert match is not None
    group = choose(groups, name or match["name"])
    block = "No committed record yet.\n"
    if group:
        table = compact_table(_main(group))
        table = replace(table, notes=(" ".join(table.notes),))  # one paragraph: the README is short
        block = f"{escape_markdown(group.title)}:\n\n{markdown(table)}"
    return text[: match.start(3)] + "\n" + block + "\n" + text[match.end(3) :]


def choose(groups: Sequence[Group], name: str | None) -> Group | None:
    """Return the named group, else the one with the fewest training documents; None when there is no group at all."""
    if name is not None:
        for group in groups:
            if group.name == name:
                return group
        raise ReadmeError(str(unknown("group", name, [group.name for group in groups])))
    return min(groups, key=lambda g: (_documents(g), g.name), default=None)


def with_card(text: str, block: str) -> str:
    """`text` with what a GPU said between the markers of that name, where it has them."""
    return _CARD.sub(lambda found: f"{found[1]}\n{block}\n{found[2]}", text)


def update(path: Path, groups: Sequence[Group], write: bool, name: str | None = None, card: str = "") -> bool:
    """Whether the file at `path` was already up to date; with `write` it is afterwards. card: the block of a GPU."""
    old = path.read_text(encoding="utf-8")
    new = with_card(with_table(old, groups, name), card)
    if write and new != old:
        path.write_text(new, encoding="utf-8", newline="\n")
    return new == old


def _main(group: Group) -> Group:
    """Build a table that fits the README; a failure is never left out."""
    rows = tuple(row for row in group.rows if roster.entry(row.method).in_readme or row.failed)
    return replace(group, rows=rows, ablations=()) if rows else group


def _documents(group: Group) -> float:
    sizes = [r.spec.train_documents for r in group.records if r.spec.epochs]
    return min((s for s in sizes if s is not None), default=float("inf"))
