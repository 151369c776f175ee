"""How many documents and seeds a claim needs, in words."""

from __future__ import annotations

import statistics

from reports.analysis import simulate, stats
from reports.analysis.groups import Group
from results.table import Table


def power_text(difference: float, discordance: float, seed_deviation: float, alpha: float, chance: float) -> str:
    """Answer for a true `difference` in points; discordance in percent, seed_deviation in points.

    Raises ValueError for a request that has no answer.
    """
    delta, share, deviation = difference / 100, discordance / 100, seed_deviation / 100
    if not 0 < alpha < 1 or not 0 < chance < 1 or not 0 <= deviation <= 1:
        raise ValueError("alpha and power lie between 0 and 1, a deviation between 0 and 100 points")
    if chance <= alpha / 2:
        raise ValueError("a power of half of alpha or less is reached without a document")
    fixed = stats.documents_needed(delta, share, alpha=alpha, power=chance)
    if fixed is None:
        raise ValueError("no number of documents is enough: alpha, or the difference, is too small")
    least = stats.seeds_needed(delta, deviation, alpha, chance) if deviation else 1
    many = "s" if least > 1 else ""
    lines = [
        f"To find a difference of {difference:g} points with power {chance:.0%} in a two-sided {alpha:.0%} test,",
        f"when exactly one of two methods is right on {discordance:g}% of the documents:\n",
        f"  between two trained models    {fixed:>9,} documents over all tasks",
        f"  between two methods           at least {least} seed{many} of each "
        f"(SD over seeds {seed_deviation:g} points)\n",
    ]
    for seeds in sorted({least, least + 1, 2 * least, 4 * least} if deviation else ()):
        needed = stats.documents_needed(delta, share, seeds, deviation, alpha, chance)
        text = "no number of documents is enough" if needed is None else f"{needed:>9,} documents"
        lines.append(f"  with {seeds:>4} of each              {text}")
    return "\n".join(lines)


def detectable_table(group: Group) -> Table:
    """Lay out the smallest true difference that each measure's tests of these records find with power 80%."""
    rows = []
    for by_measure in group.judged:
        for judged in by_measure.values():
            sizes = [j.measure.scale * j.detectable for j in judged if j.detectable is not None]
            if sizes:
                measure, form = judged[0].measure, judged[0].measure.format.replace("+z", "")
                about = "these models" if any(j.about_models for j in judged) else "the method"
                numbers = (f"{x:{form}}" for x in (min(sizes), statistics.median(sizes), max(sizes)))
                rows.append((judged[0].reference.label, measure.label, measure.unit, about, *numbers))
    columns = ("Against", "Measure", "Unit", "About", "Smallest", "Median", "Largest")
    return Table(group.title, columns, tuple(rows), frozenset(range(4)))


def simulation_table(replicates: int) -> Table:
    """Simulate the grid of reports/analysis/simulate.py and lay out the shares of rejections in percent."""
    cells = {(r.documents, r.seeds, r.deviation, r.effect): r for r in simulate.grid(replicates)}
    rows = []
    for documents, seeds, deviation in dict.fromkeys(key[:3] for key in cells):
        null, *effects = (cells[documents, seeds, deviation, e] for e in (0.0, *simulate.EFFECTS))
        shares = [x for test in simulate.TESTS for x in (null.pairs[test], null.families[test])]
        shares += [r.pairs[test] for r in effects for test in simulate.TESTS[1:]]
        rows.append((f"{documents:,}", str(seeds), f"{deviation:g}", *(f"{100 * share:.1f}" for share in shares)))
    wrong = (f"{name}{of}" for name in ("Models", "Pair", "Method") for of in ("", ", of 5"))
    finds = (f"{name} finds {effect:g}" for effect in simulate.EFFECTS for name in ("Pair", "Method"))
    notes = (
        f"Percent of {replicates:,} simulated evaluations of six methods in which a test at 5% rejects. Without a "
        "difference: one pair, and at least one of five pairs, Holm-adjusted. With one of 1 or 2 points: one pair. "
        "Models: over documents. Pair: over documents and seeds, with the seeds of the two methods alone. Method: with "
        "those of all methods.",
    )
    return Table("", ("Documents", "Seeds", "SD", *wrong, *finds), tuple(rows), frozenset(), notes=notes)
