"""Old name of `python -m benchmarks.studies.cost`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.cost", "benchmarks.studies.cost")
