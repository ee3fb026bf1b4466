"""LLM: what it takes to ask large models, once: the store of paid answers, recording, batches, and production."""
