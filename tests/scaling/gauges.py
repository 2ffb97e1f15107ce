class Gauges:
    """Stands in for Ray's metrics."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}

    def __call__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> "Gauge":
        return Gauge(self, name)


class Gauge:
    def __init__(self, gauges: Gauges, name: str) -> None:
        self._gauges = gauges
        self._name = name

    def set(self, value: float, tags: dict[str, str]) -> None:
        self._gauges.values[self._name, *tags.values()] = value
