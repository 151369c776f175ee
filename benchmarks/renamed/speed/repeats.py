"""Old name of `python -m benchmarks.studies.repeats`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.speed.repeats", "benchmarks.studies.repeats")
