"""Answers to studies: what was asked beforehand, and what the records say to it."""
