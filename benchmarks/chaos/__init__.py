"""Everything goes wrong while photos are restored, and afterwards each is accounted for."""
