"""The verbs of the command line, a function each; what is heavy they import when they run."""
