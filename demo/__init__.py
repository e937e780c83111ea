"""The demonstration behind `make demo`: sample scans, the real path, a contact sheet."""
