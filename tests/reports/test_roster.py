"""The roster knows every built-in method, and looks never change or repeat among those it knows."""

from __future__ import annotations

import pytest

from reports import roster


def test_the_roster_knows_every_built_in_method_and_no_other():
    pytest.importorskip("torch")
    from contestants import BUILT_IN

    assert set(roster.names()) == set(BUILT_IN)


def test_methods_have_looks_of_their_own_and_an_unlisted_one_gets_a_steady_one():
    looks = [tuple(map(str, roster.look(name).values())) for name in roster.names()]
    assert len({(colour, marker) for colour, marker, _ in looks}) == len(looks)
    assert roster.look("something-new") == roster.look("something-new")
    assert roster.rank("something-new") > roster.rank(roster.names()[-1])


def test_no_two_of_one_colour_are_both_round():
    every = roster.names()
    seen = [roster.look(name) for name in every[: every.index("lora-own") + 1]]
    round_ones = [look["color"] for look in seen if look["marker"] in ("o", "8", "h", "H")]  # alike at a small size
    assert len(set(round_ones)) == len(round_ones) > 3


def test_roles_name_references_controls_and_variants():
    assert roster.names("reference") == ("lora", "molora", "lora-own")
    assert roster.controls() == {
        "lora-smoe": ("random-experts", "inverse-experts"), "sensitive-ranks": ("random-ranks", "inverse-ranks"),
    }  # fmt: skip
    assert "smoe-global" in roster.groupings() and roster.groupings()[0] == roster.SUBJECT


def test_settings_other_than_a_methods_own_are_named():
    assert roster.non_default_settings("lora-smoe", {"mean_experts": 2.0, "probe_documents": 8}) == {"mean_experts"}
    assert roster.non_default_settings("lora-smoe", {}) == set() == roster.non_default_settings("lora", {"r": 3})
