"""Puts jobs in and is the control plane. Needs no torch and never meets the worker's code."""
