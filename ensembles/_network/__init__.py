"""Networks: what moves of them, masses that grow, one pass forward and back."""
