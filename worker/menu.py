"""The engine's commands by name: which module has each, and the line that `gpen-archive` lists.

Joins `gpen-archive` by entry point. It imports nothing, so that the list of commands, and any
command that needs no engine, comes without torch; a module is loaded when its command is asked for.
"""

COMMANDS = {
    "restore": (
        "worker.commands",
        "Restore one picture without a queue: writes OUT and OUT.json, and overwrites neither.",
    ),
    "verify": (
        "worker.commands_audit",
        "Check seals, hashes and pixels of everything delivered; reads only.",
    ),
    "reproduce": (
        "worker.commands_audit",
        "Make a derivative again from its master, as its sidecar says, and compare the bytes.",
    ),
    "compare": (
        "worker.commands_compare",
        "Restore one picture with several restorers: writes a sheet to compare them on.",
    ),
    "export": (
        "worker.commands_export",
        "Pack a job's derivatives and sidecars into a BagIt bag, with PREMIS 3 metadata.",
    ),
    "plan": (
        "worker.commands_plan",
        "Say what a source holds, what of it would fail, and what restoring it will take.",
    ),
    "weights": ("worker.commands_weights", "Say which weights there are, and get them."),
}
