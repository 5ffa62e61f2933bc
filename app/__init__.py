"""The faces: the command line `isochrone` and the dashboard. Everything they say is computed below them."""
