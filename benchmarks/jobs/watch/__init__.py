"""Watch jobs: what a child tells of itself, when it is stopped, the logs, and what they say of a running sweep."""
