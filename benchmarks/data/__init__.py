"""Task -> documents -> examples -> batches."""
