"""What methods cost, without accuracy: documents of random tokens, all of one length (benchmarks/data/synthetic.py)."""

from benchmarks.suites import Suite
from results.spec import COST

SUITE = Suite(
    name="cost",
    summary="time and memory of every phase on random tokens; no accuracy",
    tasks=tuple(f"synthetic_{i}" for i in range(8)),
    headline={f"synthetic_{i}": "none" for i in range(8)},
    protocol=COST,
)
