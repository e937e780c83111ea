import pytest

from jobs.durations import duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7500, "2 h 05 min")],
)
def test_a_span_of_time_is_said_as_a_person_would(seconds, said):
    assert duration(seconds) == said
