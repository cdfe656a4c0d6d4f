"""One prepared call on a GPU machine: see `__main__`."""
