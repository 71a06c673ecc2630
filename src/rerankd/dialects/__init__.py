"""Wire formats, each a two-way codec: it serves clients that speak the format, and calls upstreams that do.

A codec translates and decides nothing. URL, keys, timeouts and retries are the channel's; checking results is `validate`'s.
"""
