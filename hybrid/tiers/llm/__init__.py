"""LLM tiers: what is asked, how it is asked, what it cost, and what is kept of it."""
