"""Commands that left benchmarks/speed, under their old names."""
