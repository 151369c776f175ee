"""Is the new code worse than the old? Records against records; nothing of how a job runs."""
