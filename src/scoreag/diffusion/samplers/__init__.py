"""Samplers, one a file: ``step`` from one noise level to the next, and ``sample`` for the chain."""
