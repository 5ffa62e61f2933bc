"""STAMP (RFC 8762): round trip without the reflector's residence, loss and delay variation by direction.

``wire`` is bytes to values; ``account`` and ``reflect`` decide, with times as arguments; ``engine`` sends, ``reflector`` answers;
``config`` and ``probe`` are the probe type.
"""

from probes.stamp.config import StampConfig, read_key
from probes.stamp.engine import StampEngine
from probes.stamp.probe import StampProbe
from probes.stamp.reflect import parse_networks
from probes.stamp.reflector import StampReflector
from probes.stamp.wire import DEFAULT_PORT

__all__ = ["DEFAULT_PORT", "StampConfig", "StampEngine", "StampProbe", "StampReflector", "parse_networks", "read_key"]
