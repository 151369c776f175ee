"""What people run to answer a question beyond one table."""
