"""How many documents and seeds a claim needs, in words."""

from __future__ import annotations

import math
import statistics

from reports.analysis import simulate, stats
from reports.analysis.groups import Group
from reports.analysis.verdicts import margins
from results.table import Table

PLANNED = (2, 3, 5, 10)  # seeds of a plan


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


def needed_table(group: Group) -> Table:
    """Lay out the documents that a difference of each measure's margin needs, by seeds, as these records vary.

    Empty where no two methods share two seeds. Of each measure it is the median over the methods compared.
    """
    rows = []
    for by_measure in group.judged:
        for judged in by_measure.values():
            measure, margin = judged[0].measure, margins().get(judged[0].measure.name)
            spreads = [j.paired.spread for j in judged if j.paired.spread is not None]
            if margin and spreads:
                needed = ([s.documents_needed(margin, seeds, len(judged)) for s in spreads] for seeds in PLANNED)
                least = (statistics.median_low([math.inf if n is None else n for n in counts]) for counts in needed)
                size = f"{measure.scale * margin:{measure.format.replace('+z', '')}}"
                cells = ("never" if count == math.inf else f"{count:,}" for count in least)
                rows.append((judged[0].reference.label, measure.label, measure.unit, size, *cells))
    notes = (
        "Evaluation documents over all tasks, in equal shares, at which a true difference as large as the margin is "
        "found in 80% of evaluations (over documents and seeds, two-sided 5%, Holm-adjusted over the methods); median "
        "over the methods. never: seeds alone vary by more.",
    )
    columns = ("Against", "Measure", "Unit", "Difference", *(f"{seeds} seeds" for seeds in PLANNED))
    return Table(
        "Documents that a difference of the margin needs", columns, tuple(rows), frozenset(range(3)), notes=notes
    )


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
