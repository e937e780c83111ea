"""Checks that anybody can repeat: seals, samples outside the regions, whole destinations.

Nothing here restores or writes. What the worker proves of its own output before it stores it and
what `gpen-archive verify` proves years later are the same functions.
"""
