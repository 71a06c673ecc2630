"""What is done around a model or a channel: each policy is itself a Reranker. `pipeline.py` alone puts them in order."""
