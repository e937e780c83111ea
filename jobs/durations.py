"""Spans of time in words: seconds in, what a person would say out."""

_MINUTE_S, _HOUR_S = 60, 3600


def duration(seconds: float) -> str:
    """Return a span of time as a person says it: `42 s`, `3 min`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 2 * _MINUTE_S:
        return f"{whole} s"
    if whole < 2 * _HOUR_S:
        return f"{whole // _MINUTE_S} min"
    return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S:02} min"
