"""What was asked and what was measured: spec, record, metrics, store.

Beside the standard library pydantic alone, so that a report can be redrawn on any machine from the JSON.
"""

from results.record import Cost, Parameters, Record, Score
from results.spec import RunSpec

__all__ = ["Cost", "Parameters", "Record", "RunSpec", "Score"]
