"""Score-based diffusion in the coordinates ``x = x0 + sigma n``, with data in [-1, 1]."""
