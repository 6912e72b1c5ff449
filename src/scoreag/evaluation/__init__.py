"""How good a model is: its card's figures, computed again, and more of them."""
