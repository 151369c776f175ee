"""What methods cost: laws fitted to measured costs, and what arithmetic says."""
