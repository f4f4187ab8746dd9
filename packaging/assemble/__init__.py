"""Makes packages from staged files and packaging/packages.toml; packaging/build calls it."""
