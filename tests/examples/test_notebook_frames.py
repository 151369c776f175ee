"""The notebook-like example runs on the committed records."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_example_prints_a_table_of_the_methods_from_the_committed_records():
    command = [sys.executable, "-W", "error", "examples/notebook_frames.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    methods, pairs, experts = done.stdout.split("\n\n")
    assert "macro_accuracy" in methods and {"frozen", "lora", "lora-smoe"} <= set(methods.split())
    assert "winogrande" in pairs and "%" in pairs and "down_proj" in experts
