"""The collector, as others use it: the ASGI application and the server around it."""

from warehouse.intake import make_app
from warehouse.serve import serve

__all__ = ["make_app", "serve"]
