"""One file a client library: each function asks as a user's code would, with the one line that points it at rerankd."""
