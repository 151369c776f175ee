"""What is run and how it is measured: suites, training, evaluation, meters, planning, executors."""
