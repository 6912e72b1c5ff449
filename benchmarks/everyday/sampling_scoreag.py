"""Sixteen images of given classes by my diffusion model, as PNG.

25 steps of Heun's sampler call the network 49 times.
"""

import scoreag

prior = scoreag.load_prior("ddpm")
labels = [number % 10 for number in range(16)]
scoreag.synthesize(prior, None, labels, steps=25).save("out")
