"""What studies write beside the records of their jobs."""
