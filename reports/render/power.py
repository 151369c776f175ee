"""How many documents and seeds a claim needs, in words."""

from __future__ import annotations

from reports.analysis import stats


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
