"""What is fine-tuned: names of models, loading, attention, and the embedded files behind them."""
