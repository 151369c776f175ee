"""What is published tells no user's name, no place on a machine and no secret."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic_records import make_failed

from results.private import home_relative, private_command, private_text

ROOT, HOME = Path("/srv/repo"), Path("/home/ann")


def test_paths_are_shortened_wherever_they_stand():
    argv = [
        "/srv/repo/run.py", "--out", "/srv/repo/results", "--records=/home/ann/a,/mnt/b/c", "/home/anna/x", "C:\\u\\v",
    ]  # fmt: skip
    expected = ["run.py", "--out", "./results", "--records=~/a,.../c", ".../x", ".../v"]
    assert private_command(argv, ROOT, HOME) == expected
    assert private_command([], ROOT, HOME) == []


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("file:///home/ann/m", "~/m"),
        ("--model=file:///data/a/b", "--model=.../b"),
        ("'/home/ann/m'", "~/m"),
        ('"/mnt/x y/z"', ".../z"),
        ("@/home/ann/a.json", "~/a.json"),
        ("@/mnt/secret/a.json", ".../a.json"),
        ("/home/ann/my model/x", ".../x"),
        ("https://ann:pw@host/x/y", "https://***@host/x/y"),
        ("lora:r=16,molora:num_experts=4", "lora:r=16,molora:num_experts=4"),
        ("1e-4,2e-3", "1e-4,2e-3"),
        ("cais/mmlu=0123abc", "cais/mmlu=0123abc"),
    ],
)
def test_an_argument_holds_no_absolute_path_in_any_dress(argument, shown):
    assert private_command(["x", argument], ROOT, HOME) == ["x", shown]


@pytest.mark.parametrize("option", ["--token", "--hf-token", "--api_key", "--HF_TOKEN", "--password"])
def test_what_follows_an_option_like_a_token_s_is_hidden(option):
    assert private_command(["x", option, "abc", "y"], ROOT, HOME) == ["x", option, "***", "y"]
    assert private_command(["x", f"{option}=abc"], ROOT, HOME) == ["x", f"{option}=***"]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("FileNotFoundError: '/home/ann/x y/z.json' (a.py:3)", "FileNotFoundError: '~/x y/z.json' (a.py:3)"),
        ("open file:///mnt/a/b failed", "open .../b failed"),
        ("/srv/repo/a/b.py and C:\\Users\\ann\\x.txt", "./a/b.py and .../x.txt"),
        ("and/or 1/2, /5 or https://hub.co/a/b", "and/or 1/2, /5 or https://hub.co/a/b"),
        ("HF_TOKEN=hf_abc run --token abc", "HF_TOKEN=*** run --token ***"),
        ("no access with hf_" + "a1B2" * 8, "no access with ***"),
        (
            "an answer of 0 tokens does not fit: train_tokens=900",
            "an answer of 0 tokens does not fit: train_tokens=900",
        ),
    ],
)
def test_an_error_message_loses_paths_and_secrets_and_nothing_else(text, shown):
    assert private_text(text, ROOT, HOME) == shown


@given(st.text(), st.lists(st.text("abc.-_ '\"@=,:", min_size=1), max_size=4))
def test_the_home_folder_is_never_shown(before, names):
    path = "/home/ann/" + "/".join(names)
    for argument in (path, f"--x={path}", f"file://{path}", f"@{path}", f"'{path}'"):
        assert "/home/ann/" not in " ".join(private_command(["x", argument], ROOT, HOME))
        assert "/home/ann/" not in private_text(f"{before} {argument}", ROOT, HOME)


def test_a_path_below_the_home_folder_comes_back_from_its_short_form(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ann")
    assert Path(home_relative("/home/ann/a b/c")).expanduser() == Path("/home/ann/a b/c")
    assert home_relative("/home/anna/x") == "/home/anna/x" and home_relative("a/b") == "a/b"


def test_a_record_s_error_is_private():
    record = dataclasses.replace(make_failed("lora"), error=f"OSError: {Path.home()}/secret/x (a.py:1)")
    assert record.error == "OSError: ~/secret/x (a.py:1)"
