"""What `study shapes` measures at the shapes of published models."""
