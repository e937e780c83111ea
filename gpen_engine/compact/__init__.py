"""gpen-compact: the checkpoint that ships with the project, and how it was trained."""
