"""Mixtures of LoRA experts from the literature that are more than a placing of experts; found as the folder above."""
