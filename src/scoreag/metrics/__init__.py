"""Distances between images and between sets of images, and the features behind them."""
