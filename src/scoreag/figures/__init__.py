"""Figures with their intervals, and the networks in whose features sets of images are compared."""
