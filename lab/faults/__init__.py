"""Faults on purpose: real collectors, agents and servers are killed, cut off, filled up and set wrong, and then held to account.

``python -m lab.faults`` (``make faults``) runs one scenario for each fault. Every one ends in the same judgement: what was measured is in
the warehouse once, or was lost within a bound that was stated before; rejects are explained; ``isochrone warehouse verify`` finds nothing.

``servers``, ``collector``, ``agent`` and ``fleet`` are the parts that run; ``judge`` holds them to account; ``stage`` is what a scenario
stands on; ``scenarios`` and ``outages`` are the faults; ``report`` is the page.
"""
