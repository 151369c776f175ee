"""Old name of `python -m benchmarks.offline.gpu_pass`."""

from benchmarks.renamed import run

if __name__ == "__main__":
    run("benchmarks.gpu_pass", "benchmarks.offline.gpu_pass")
