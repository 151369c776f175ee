"""What is measured of a block, one file each; `baselines.budgets` turns it into experts."""
