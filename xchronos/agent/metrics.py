"""What an agent counts: plain numbers, which become samples when somebody asks for them."""

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from xchronos.model.policies import Outcome


class AgentMetrics(Collector):
    """The agent's metrics, in a registry of the daemon's.

    Attributes:
        running: Attempts that are worked on now.
        started: Attempts that were recorded as begun.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.running = 0
        self.started = 0
        self._ended: Counter[Outcome] = Counter()
        registry.register(self)

    def ended(self, outcome: Outcome) -> None:
        """An attempt has ended."""
        self._ended[outcome] += 1

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        yield GaugeMetricFamily("xchronos_attempts_running", "Attempts running on this machine", self.running)
        yield CounterMetricFamily("xchronos_attempts_started", "Attempts started on this machine", self.started)
        ended = CounterMetricFamily("xchronos_attempts", "Attempts ended on this machine", labels=["outcome"])
        for outcome, count in self._ended.items():
            ended.add_metric([outcome.value], count)
        yield ended
