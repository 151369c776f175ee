"""What a user of a trained adapter pays: speed and memory of answering, the adapter beside and inside the weights."""

from benchmarks.suites import Suite
from results.spec import SERVING

SUITE = Suite(
    name="serving",
    summary="tokens per second and memory of answering, adapter attached and merged, beside the base; no accuracy",
    tasks=tuple(f"synthetic_{i}" for i in range(8)),
    headline={f"synthetic_{i}": "none" for i in range(8)},
    protocol=SERVING,
    train_documents=32,  # four steps: as many as any method needs to be whole
    limit=3,  # rounds, each with prompts of its own
)
