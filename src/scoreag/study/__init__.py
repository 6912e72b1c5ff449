"""Human studies: people name the images of runs, on one page without a network."""
