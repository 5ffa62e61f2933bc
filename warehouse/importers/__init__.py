"""Other people's measurements, by format: each importer keeps what is wrong with a row instead of dropping it."""

__all__ = ["FORMATS"]

#: Every format that can be imported, and what it is.
FORMATS = {
    "rtt-matrix": "CSV of round-trip times between sites: src,dst,rtt_ms",
}
