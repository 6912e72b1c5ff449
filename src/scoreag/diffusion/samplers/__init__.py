"""Samplers, one per file, found by the file's name.

A file defines ``sample(denoise, x, sigmas, noise, wrt=())``, often ``partial(integrate, step)`` of
a pure ``step``.  Its keyword-only parameters are the sampler's options.  ``noise_schedule(steps,
sigma_max)`` is optional: the noise levels that the method wants in place of Karras'.
"""
