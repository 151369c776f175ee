"""The pages of what methods cost: the cost laws, serving, a pass over a GPU."""
