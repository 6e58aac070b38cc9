"""Networks; nothing about pruning in them."""
