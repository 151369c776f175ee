"""For machines without a network: bundles of assets and packages, and the pass over a GPU node."""
