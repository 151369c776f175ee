"""Old name of `python -m benchmarks.studies.shapes`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.speed.shapes", "benchmarks.studies.shapes")
