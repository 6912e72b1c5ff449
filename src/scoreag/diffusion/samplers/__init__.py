"""Samplers, one per file, found by the file's name.

A file defines ``sample(denoise, x, sigmas, noise, wrt=())``, often ``partial(integrate, step)`` of
a pure ``step``.  Its keyword-only parameters are the sampler's options.  Two more are optional:
``noise_schedule(steps, sigma_max)``, the noise levels that it wants in place of Karras', and
``draw_levels(sigmas, **options)``, the noise levels at which noise is drawn after the first step;
the sampler then tells of each draw by the functions of ``steering``.
"""
