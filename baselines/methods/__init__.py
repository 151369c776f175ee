"""The contestants, one file each; found by this folder (see benchmarks.registry)."""
