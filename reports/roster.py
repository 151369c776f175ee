"""Every method that the reports know: its order, role, look and own settings, in one place.

A method that is not listed is a contestant like any other: it comes after the listed ones, its look is by its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# main: the comparison's question. reference: others are compared with it. control: does the allocation beat chance?
# variant: LoRA-SMoE with one decision taken otherwise. bound: trains everything or nothing. rival: any other.
Role = Literal["main", "reference", "control", "variant", "bound", "rival"]


@dataclass(frozen=True)
class Entry:
    """What the reports know of one method."""

    name: str
    role: Role
    controls: str | None = None  # the method whose allocation this one is the control of
    settings: Mapping[str, Any] = field(default_factory=dict)  # its own, where it is run with others too
    ablated: bool = False  # rows with other settings than its own are ablations, not contestants
    grouping: bool = False  # shown in the ablation of which blocks are ranked against each other
    in_readme: bool = False
    about: str = ""  # what it is, for who has read nothing yet


# In the order of every table and legend. A place gives the look, so that new ones are put at the end.
METHODS = (
    Entry("frozen", "bound", in_readme=True, about="the model as it came, untrained"),
    Entry("lora", "reference", in_readme=True, about="one adapter on every weight matrix"),
    Entry("molora", "reference", in_readme=True,
          about="a mixture: equally many experts on every weight matrix, and a router for each"),
    Entry("adalora", "main", in_readme=True,
          about="one adapter on every weight matrix, whose less important parts are pruned while it is trained"),
    Entry("lora-smoe", "main", settings={"mean_experts": 4.0, "probe_documents": 8}, ablated=True, grouping=True,
          in_readme=True, about="a mixture whose experts are placed where the tasks' gradients are large"),
    Entry("mola", "rival", settings={"shape": "inverted-triangle"}),  # its other shapes are contestants
    Entry("alphalora", "rival"),
    Entry("eva-experts", "rival"),
    Entry("random-experts", "control", controls="lora-smoe", in_readme=True,
          about="a control: as many experts as lora-smoe has, placed at random"),
    Entry("inverse-experts", "control", controls="lora-smoe", in_readme=True,
          about="a control: as many experts as lora-smoe has, placed where the gradients are small"),
    Entry("smoe-released", "variant", settings={"probe_documents": 8}, ablated=True),
    Entry("smoe-proportional", "variant"),
    Entry("smoe-type", "variant", grouping=True),
    Entry("smoe-global", "variant", grouping=True),
    Entry("hydralora", "rival"),
    Entry("dora", "rival"),
    Entry("rslora", "rival"),
    Entry("pissa", "rival"),
    Entry("full", "bound", about="no adapter: every weight of the model is trained"),
    Entry("smoe-attention", "variant", grouping=True),
    Entry("smoe-mlp", "variant", grouping=True),
    Entry("lora-own", "reference",  # what memory and time are compared with
          about="lora in the program code of the mixtures, so that methods and not libraries are compared"),
    Entry("experts", "rival"),  # any importance, spent as experts ...
    Entry("ranks", "rival"),  # ... and as ranks
    Entry("sensitive-ranks", "rival"),
    Entry("random-ranks", "control", controls="sensitive-ranks"),
    Entry("inverse-ranks", "control", controls="sensitive-ranks"),
    Entry("fim-lora", "rival"),
    Entry("eva-lora", "rival"),
    Entry("gora", "rival"),
    Entry("adamole", "rival"),
    Entry("ld-mole", "rival"),
    Entry("smora", "rival"),
    Entry("loramoe", "rival"),
    Entry("mixlora", "rival"),
    Entry("goat", "rival"),
    Entry("dmep", "rival"),
    Entry("guilomo", "rival"),
)  # fmt: skip
SUBJECT = "lora-smoe"  # the method whose variants, controls and ablations are asked about

# Okabe and Ito's eight colours, which stay apart for every common kind of colour blindness (their yellow, too pale
# for a line on white, is darkened). 8 colours and 16 markers make 128 different looks.
COLOURS = ("#000000", "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8A8A00")
MARKERS: tuple[str | tuple[int, int, int], ...] = (
    "o", "s", "^", "D", "*", "v", "P", "X", "<", "h", ">", "d", "8", "p", "H", (4, 1, 0),
)  # fmt: skip
DASHES: tuple[str | tuple[int, tuple[int, ...]], ...] = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))

_PLACES = {entry.name: place for place, entry in enumerate(METHODS)}


def names(*roles: Role) -> tuple[str, ...]:
    """Return the methods of these roles (default: all), in order."""
    return tuple(entry.name for entry in METHODS if not roles or entry.role in roles)


def entry(method: str) -> Entry:
    """Return what is known of a method; of an unlisted one, that it is a rival."""
    return METHODS[_PLACES[method]] if method in _PLACES else Entry(method, "rival")


def rank(method: str) -> tuple[int, str]:
    """Return a key that sorts methods into the order of every table."""
    return _PLACES.get(method, len(METHODS)), method


def controls() -> dict[str, tuple[str, ...]]:
    """Return {method: its controls}."""
    pairs = [(entry.controls, entry.name) for entry in METHODS if entry.controls]
    return {method: tuple(name for of, name in pairs if of == method) for method, _ in pairs}


def groupings() -> tuple[str, ...]:
    """LoRA-SMoE with every grouping of the blocks."""
    return tuple(entry.name for entry in METHODS if entry.grouping)


def non_default_settings(method: str, settings: Mapping[str, Any]) -> set[str]:
    """Name the settings in which a row is not its method's own; a setting that a record lacks is its own."""
    return {name for name, value in entry(method).settings.items() if settings.get(name) not in (value, None)}


def look(method: str) -> dict[str, Any]:
    """Colour, marker and line style of a method, the same in every figure of every report."""
    if method in _PLACES:
        place = _PLACES[method]
    else:
        digest = int(hashlib.sha256(method.encode()).hexdigest(), 16)
        place = len(METHODS) + digest % (len(COLOURS) * len(MARKERS) - len(METHODS))
    turn = place // len(COLOURS)
    return {
        "color": COLOURS[place % len(COLOURS)],
        "marker": MARKERS[(place + 5 * turn) % len(MARKERS)],
        "linestyle": DASHES[turn % len(DASHES)],
    }
