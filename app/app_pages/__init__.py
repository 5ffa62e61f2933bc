"""One script for each page of the dashboard; each reads app.data, calls pure figure functions and lays them out."""
