"""The built-in worlds: one TOML file each, named as it is asked for."""
