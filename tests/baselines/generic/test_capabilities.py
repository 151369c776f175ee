"""The table of PEFT's types in baselines/README.md is what the code says of them; test_peft_tuner.py holds the code."""

from __future__ import annotations

from pathlib import Path

from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING

from baselines.generic.config import UNTRAINABLE
from baselines.generic.tuner import BATCH_DEPENDENT, NO_BLOCKS, SIZE, tuner

README = Path(__file__).parents[3] / "baselines" / "README.md"
BEGIN, END = "<!-- peft:begin -->\n", "<!-- peft:end -->"


def table():
    """Draw the table, one row a type of the installed PEFT."""
    lines = ["| type | compared | starts at base | trains | size field of `--match params` |", "|---|---|---|---|---|"]
    for kind in sorted(str(k.value) for k in PEFT_TYPE_TO_CONFIG_MAPPING):
        if kind in UNTRAINABLE:
            lines.append(f"| {kind} | refused: {UNTRAINABLE[kind]} | | | |")
            continue
        made = "yes; depends on the batch" if kind in BATCH_DEPENDENT else "yes"
        base = "yes" if tuner(kind)().starts_at_base else "no"
        lines.append(
            f"| {kind} | {made} | {base} | {'parts of its own' if kind in NO_BLOCKS else 'blocks'} "
            f"| {SIZE.get(kind, 'as published')} |"
        )
    return "\n".join(lines) + "\n"


def test_the_table_of_the_readme_is_what_the_code_says():
    assert README.read_text().partition(BEGIN)[2].partition(END)[0] == table()
