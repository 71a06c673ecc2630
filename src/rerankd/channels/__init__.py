"""Remote rerankers: an upstream that speaks one of the wire formats becomes a Reranker like every other.

Where a call may go, with which key, and what an upstream's answer and its errors mean to us is decided here. Only this
package imports aiohttp.
"""
