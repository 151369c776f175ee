"""Spec -> record: jobs, the processes they run in, and how they are measured."""
