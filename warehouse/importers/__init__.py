"""Other people's measurements, by format: each importer keeps what is wrong with a row instead of dropping it."""

from warehouse.importers.formats import FORMATS

__all__ = ["FORMATS"]
