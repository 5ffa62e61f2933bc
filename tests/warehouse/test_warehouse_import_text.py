"""Importing what ping, traceroute, fping and mtr print: each packet and hop as the text has it, what is missing unknown."""

from __future__ import annotations
