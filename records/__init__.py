"""The vocabulary of Isochrone: frozen records, units, pure statistics.

Standard library only; no I/O, no clock, no globals that change. Every other package imports from here and
the packages meet only through what is defined here: a measurement batch (probes -> warehouse) and a link
estimate (warehouse -> routing).
"""
