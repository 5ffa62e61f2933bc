"""One module for each group of commands; app.cli loads them when they are called."""
