"""Records -> groups -> statistics: nothing here draws or writes."""
