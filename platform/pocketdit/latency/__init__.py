"""Predicting and measuring the latency of exported models, and recommending an operating point."""
