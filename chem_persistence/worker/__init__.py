"""Flows that are given to workers: the client that submits them, and what runs them."""
