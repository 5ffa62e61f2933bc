"""Alarms: what has changed for the worse, told once, to whoever asked to be told.

The detectors (`shift`, `paths`, `missing`, `flips`), the life of an alarm (`life`), grouping (`groups`) and what is sent (`notices`)
are pure: time and measurements are arguments. `watch` feeds them from a warehouse and keeps alarms there, `courier` posts.
"""
