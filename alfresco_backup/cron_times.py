"""The times of day at which a cron or Quartz expression fires. Days are left out: any day counts. Pure."""

_NAMED = {"@daily": "0 0", "@midnight": "0 0", "@weekly": "0 0", "@monthly": "0 0", "@hourly": "0 *"}
MINUTES_OF_A_DAY = 24 * 60


def minutes_of_day(expression: str) -> frozenset[int]:
    """Minutes since midnight. Five fields are cron's, six and seven Quartz's, which begin with seconds.

    Raises ValueError for what is neither.
    """
    fields = _NAMED.get(expression.strip(), expression).split()
    if len(fields) in (6, 7):
        fields = fields[1:]
    if len(fields) < 2:
        raise ValueError(f"{expression!r} is no cron expression")
    hours = _field(fields[1], 23)
    return frozenset(hour * 60 + minute for hour in hours for minute in _field(fields[0], 59))


def clock(minute: int) -> str:
    """`02:30`."""
    return f"{minute // 60 % 24:02}:{minute % 60:02}"


def _field(text: str, last: int) -> frozenset[int]:
    found: set[int] = set()
    for item in text.split(","):
        span, _, step = item.partition("/")
        if span in ("*", "?"):
            low, high = 0, last
        else:
            first, dash, end = span.partition("-")
            low = int(first)
            high = int(end) if dash else last if step else low
        if not 0 <= low <= high <= last:
            raise ValueError(f"{text!r} goes beyond {last}")
        found.update(range(low, high + 1, int(step) if step else 1))
    return frozenset(found)
