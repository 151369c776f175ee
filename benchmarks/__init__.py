"""What is run and how it is measured: suites, training, evaluation, meters, planning, executors."""

__path__ += [f"{folder}/renamed" for folder in __path__]  # commands by their names of the last release
