"""How scores become experts: by the votes of samples, or in proportion."""
