"""A record names a model below the home folder with `~`, and a job finds it by that name."""

from __future__ import annotations

import pytest

from benchmarks.models import load as models


def test_a_folder_below_the_home_folder_is_found_by_its_short_name(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "m").mkdir()
    models.check("~/m")
    assert models._folder("~/m") == str(tmp_path / "m") and models._folder("a/b") == "a/b"
    with pytest.raises(ValueError, match="no such folder"):
        models.check("~/n")
