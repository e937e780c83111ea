"""The worker takes photos out of the queue; queue and engine meet only here."""
