"""A finished job as a package for an archive: a BagIt bag with PREMIS metadata.

In: a job's photos, and the stores with its masters and derivatives; both are only read. Out: one
folder. Everything passes through one photo at a time; docs/export.md describes what comes of it.
"""
