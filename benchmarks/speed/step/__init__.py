"""What a training step costs: beside LoRA's, byte by byte, over the matrix products in it, and compiled."""
