"""Sixteen images of given classes by my diffusion model, as PNG."""

import scoreag

prior = scoreag.load_prior("ddpm")
labels = [number % 10 for number in range(16)]
scoreag.synthesize(prior, None, labels, steps=50, sampler="ancestral").save("out")
