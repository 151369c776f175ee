"""Old name of `python -m benchmarks.offline.assets`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.assets", "benchmarks.offline.assets")
