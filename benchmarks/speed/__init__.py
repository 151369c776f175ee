"""Is LoRA-SMoE as fast and as lean as it should be? Ratios to what it is compared with, measured side by side.

`python -m benchmarks.speed` prints the table of ratios; `python -m pytest benchmarks/speed --benchmark-enable` measures
the same under pytest-benchmark. Nothing here asserts a time: a missed target is printed as missed.
"""
