"""Networks ``F(x, time, labels)`` of score models; ``build(**options)`` constructs one."""
