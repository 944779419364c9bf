"""Load drivers; each is run by its own make target and says how to be read in README.md."""
