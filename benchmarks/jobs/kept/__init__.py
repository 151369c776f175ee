"""Trained adapters that a run keeps: where they lie, and the cards that say how to load them."""
