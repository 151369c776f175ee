"""The end of a run: its table and its report, whatever became of single jobs."""

from __future__ import annotations

import re

from synthetic_records import make_failed, make_record, make_spec

from benchmarks.jobs import session
from results.store import Store


def test_a_job_without_a_record_leaves_the_table_and_the_report_of_the_others(tmp_path, capfd):
    store = Store(tmp_path / "records")
    records = [*(make_record(method, layers=2, count=4) for method in ("lora", "molora")), make_failed("adalora")]
    for record in records:
        store.save(record)
    assert not session.report([*(record.spec for record in records), make_spec(method="mola")], store)
    output = capfd.readouterr()
    for method in ("lora", "molora", "adalora"):
        assert re.search(rf"^\s*{method}\b", output.out, re.MULTILINE)
    assert output.err.splitlines() == [f"error: no record of {make_spec(method='mola').key}"]
    assert "molora" in (store.folder / "report" / "index.html").read_text(encoding="utf-8")


def test_names_and_reasons_in_brackets_are_no_markup_of_the_terminal(capsys, tmp_path, monkeypatch):
    session.tell_undecided([make_spec(method="[/b]")])
    assert "[/b] seed 0" in capsys.readouterr().out
    store = Store(tmp_path)
    store.set_aside.append((tmp_path / "x.json", "not a number: [/b]"))
    monkeypatch.setattr(session.LocalProcesses, "run", lambda *_: iter(()))
    monkeypatch.setattr(session, "estimates", lambda *_: {})
    assert session.run([], store) == 0
    assert "set aside: x.json (not a number: [/b])" in capsys.readouterr().out
