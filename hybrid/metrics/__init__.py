"""Metrics: outcomes become numbers, each with its interval, and curves over every threshold."""
