"""What a source holds, told without restoring it: headers, faults, duplicates, cost."""
