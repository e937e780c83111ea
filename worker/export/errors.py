"""What only an export can find wrong; the rest of the tree is `jobs.errors`."""

from jobs.errors import Permanent


class DeliveryMismatch(Permanent):
    """A file of a delivered photo is gone, or isn't what its sidecar says."""

    code = "output.mismatch"
    advice = "Put back the file that the message names, as it was delivered, then export again."


class BagInvalid(Permanent):
    """The bag that was just written doesn't pass its own check."""

    code = "bag.invalid"
    advice = "Check the disk that it was written to, then export again."
