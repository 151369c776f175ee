"""What a run prints when nobody watches it live."""

from __future__ import annotations

import dataclasses

from synthetic_records import make_failed, make_record, make_spec

from benchmarks.jobs.watch.display import Display


def test_a_pipe_gets_one_whole_line_an_event_and_no_control_codes(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    done, todo = make_spec(method="lora"), make_spec(method="a-method-whose-name-is-long-enough-for-any-terminal")
    error = "ValueError: [red] " + "long " * 40 + "end"
    failed = dataclasses.replace(make_failed(todo.method), error=error)
    with Display([done, todo], {done.key}, {done.key: None, todo.key: None}) as display:
        display.started(done)
        display.ended(make_record("lora"))
        report = display.started(todo)
        for step in (1, 2, 3):
            report("train", step, 3)
        display.ended(failed)
    lines = capsys.readouterr().out.splitlines()
    assert f"  {done.key}  finished" in lines and f"  {todo.key}  time unknown" in lines
    assert lines.count("  train") == 1 and f"  failed: {error}" in lines
    assert not any("\x1b" in line or "\r" in line for line in lines)
