"""Old name of `python -m benchmarks.studies.stability`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.stability", "benchmarks.studies.stability")
