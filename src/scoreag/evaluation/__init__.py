"""How good a model is: the metrics of its card, computed again, and further ones."""
