"""One scoring recipe a file; which one a checkpoint needs is said by its files alone."""
