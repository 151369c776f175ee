"""How tokens choose experts, one file each."""
