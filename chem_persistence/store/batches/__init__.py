"""Appends to many flows by one call: each flow all or nothing, one answer for each."""
