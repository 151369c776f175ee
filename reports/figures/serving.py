"""How fast a model writes with its adapter, beside the base, against the batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.analysis.costs.serving import BASE, Served
from reports.figures import style
from reports.figures.canvas import new_figure

DASHES: dict[str, Any] = {"attached": "-", "merged": ":"}


def draw_serving(rows: Sequence[Served]) -> Figure:
    """Draw a line a method and form: decode tokens per second over the base's in the same round; bars span rounds."""
    models = list(dict.fromkeys(row.model for row in rows))
    figure, parts = new_figure(0.6 + 4.2 * len(models), 4.0, len(models), share_y=True)
    looks = style.looks(dict.fromkeys((row.label, row.method) for row in rows))
    for panel, model in zip([parts] if len(models) == 1 else parts, models, strict=True):
        panel.axhline(100, color="#333333", linewidth=0.8)
        batches = sorted({row.batch for row in rows})
        for label, look in looks.items():
            for form, dash in DASHES.items():
                line = [r for r in rows if (r.model, r.label, r.form) == (model, label, form) and r.form != BASE]
                if line:
                    middle = [100 * r.decode_of_base.value for r in line]
                    low = [100 * (r.decode_of_base.value - r.decode_of_base.low) for r in line]
                    high = [100 * (r.decode_of_base.high - r.decode_of_base.value) for r in line]
                    at = [r.batch for r in line]
                    panel.errorbar(at, middle, [low, high], **{**look, "linestyle": dash}, elinewidth=0.7, capsize=2)
        panel.set(xscale="log", xlabel="Batch", title=model)
        panel.set_xticks(batches, [str(batch) for batch in batches])
        panel.minorticks_off()
    figure.supylabel("Decode speed, percent of the base's", fontsize=9)
    methods = [Line2D([], [], label=label, **{**look, "linestyle": "-"}) for label, look in looks.items()]
    forms = [Line2D([], [], label=form, color="#333333", linestyle=dash) for form, dash in DASHES.items()]
    figure.legend(handles=[*methods, *forms], loc="outside lower center", ncols=4)
    return figure
