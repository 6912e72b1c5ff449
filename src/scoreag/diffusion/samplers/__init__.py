"""Samplers, one per file, found by the file's name.

A file defines ``sample(denoise, x, sigmas, noise, wrt=())``, often ``partial(integrate, step)`` of
a pure ``step``.  Its keyword-only parameters are the sampler's options.  Two more are optional:
``noise_schedule(steps, sigma_max)``, the noise levels that it wants in place of Karras', and
``draws_noise(**options)``, by which a sampler says that it draws noise after its start; where it
does so it says by the functions of ``steering``.
"""
