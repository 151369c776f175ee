"""What was asked and what was measured: spec, record, metrics, store.

Standard library only, so that a report can be redrawn on any machine from the JSON alone.
"""

from results.record import Cost, Parameters, Record, RunSpec, Score

__all__ = ["Cost", "Parameters", "Record", "RunSpec", "Score"]
