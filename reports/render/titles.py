"""Names of comparisons that no reader mixes up, and which comparison says most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports.analysis import stats
from reports.analysis.groups import Group


def distinct_titles(groups: Sequence[Group]) -> dict[str, str]:
    """Return {group's name: its title, with what its folder's name adds where several groups have one title}."""
    return _distinct({g.name: g.title for g in groups})


def brief_titles(groups: Sequence[Group]) -> dict[str, str]:
    """Return {group's name: what tells it from the other groups}; the suite always stands in front."""
    parts = {g.name: g.title.split(", ") for g in groups}
    shared = set.intersection(*map(set, parts.values())) if len(groups) > 1 else set()
    return _distinct(
        {n: ", ".join(p for i, p in enumerate(words) if not i or p not in shared) for n, words in parts.items()}
    )


def by_information(groups: Sequence[Group]) -> list[Group]:
    """Sort the comparison that says most first: training told from none, many documents and seeds."""
    return sorted(groups, key=lambda g: (not training_shows(g), -documents(g) * seeds(g), g.name))


def training_shows(group: Group) -> bool:
    """Whether some trained method is significantly better than the frozen model (paired, adjusted over methods)."""
    trained = {s.row for s in group.summaries if s.metrics["trainable_params"] != 0}
    return any(
        c.row in trained and c.macro.value > 0 and c.macro_p is not None and c.macro_p < stats.ALPHA
        for frozen in group.own(["frozen"])
        for c in group.compare(frozen)
    )


def documents(group: Group) -> int:
    """Count evaluated documents over all tasks; 0 with nothing finished."""
    return sum(len(group.finished[0].outcomes(task)) for task in group.tasks) if group.finished else 0


def seeds(group: Group) -> int:
    """Return the largest number of seeds of a method."""
    return max((len(row.seeds) for row in group.finished), default=0)


def _distinct(titles: dict[str, str]) -> dict[str, str]:
    counts = Counter(titles.values())
    return {n: title if counts[title] == 1 else f"{title} ({n.rsplit('--', 1)[-1]})" for n, title in titles.items()}
