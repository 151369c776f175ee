"""Names of comparisons that no reader mixes up, and which comparison says most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from reports import roster
from reports.analysis import stats
from reports.analysis.groups import Group

PROTOCOLS = {
    "loglik": "of the choices offered, the one that the model finds likeliest counts as its answer",
    "generative": "the model writes its answer, in which the choice is searched for",
    "lm-eval": "the model answers as lm-evaluation-harness asks in its own tasks",
}
MATCHES = {
    "params": "sizes were chosen so that all methods train about equally many parameters",
    "experts": "sizes were chosen so that all mixtures have equally many experts",
}


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


def explained(group: Group) -> list[tuple[str, str]]:
    """Return (word, what it means) of the words in the group's title, and of its methods that are known, in order."""
    spec = next((r.spec for r in group.records if r.spec.epochs), group.records[0].spec)
    words = []
    if spec.suite_version is not None:
        text = "of the suite: its questions and their order; two versions never stand in one table"
        words.append((f"version {spec.suite_version}", text))
    words += [(f"{name} protocol", text) for name, text in PROTOCOLS.items() if name == spec.protocol]
    words += [(f"matched on {name}", text) for name, text in MATCHES.items() if name == spec.match]
    methods = dict.fromkeys(row.method for row in group.rows)
    return words + [(name, about) for name in methods if (about := roster.entry(name).about)]


def _distinct(titles: dict[str, str]) -> dict[str, str]:
    counts = Counter(titles.values())
    return {n: title if counts[title] == 1 else f"{title} ({n.rsplit('--', 1)[-1]})" for n, title in titles.items()}
