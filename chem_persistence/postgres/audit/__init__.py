"""Verification of stored logs."""
