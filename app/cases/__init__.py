"""Scenarios that come with Isochrone, one JSON file each; docs/cases.md works their numbers."""
