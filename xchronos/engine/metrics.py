"""What a scheduler counts: plain numbers, made into samples when somebody asks for them."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from xchronos.clock import SECOND, Micros
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.model.records import Execution

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10, 60, 600)
"""Upper bounds of the lateness histogram, in seconds."""

STATES = ("placed", "waiting", "queued", "delayed", "ended")
"""What a fire time's execution may be in when it is written; each is shown from the start."""

_BOUNDS = tuple(int(bound * SECOND) for bound in BUCKETS)


class SchedulerMetrics(Collector):
    """The scheduler's metrics, in a registry of the daemon's.

    Attributes:
        cluster: What the scheduler knows at present; None between two sessions.
        shards: How many shards it owns.
        terms: How many terms of shards it has begun.
        leader: Whether it leads the cluster.
        unreadable: How many stored units it has met and cannot read.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.cluster: ClusterState | None = None
        self.shards = 0
        self.terms = 0
        self.leader = False
        self.unreadable = 0
        self._claims: Counter[str] = Counter(dict.fromkeys(STATES, 0))
        self._ends: Counter[str] = Counter()
        self._late = [0] * (len(BUCKETS) + 1)
        self._late_sum: Micros = 0
        registry.register(self)

    def late(self, lateness: Micros) -> None:
        """A fire time was decided about so long after it."""
        self._late[bisect_left(_BOUNDS, lateness)] += 1
        self._late_sum += lateness

    def claimed(self, executions: Iterable[Execution]) -> None:
        """A claim was committed."""
        for execution in executions:
            self._claims[execution.state] += 1

    def settled(self, execution: Execution) -> None:
        """An execution has moved; counts those that ended."""
        if execution.outcome is not None:
            self._ends[execution.outcome.value] += 1

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        lateness = HistogramMetricFamily(
            "xchronos_fire_lateness_seconds", "From a fire time to the turn that decided about it"
        )
        names = [*map(str, map(float, BUCKETS)), "+Inf"]
        lateness.add_metric([], list(zip(names, accumulate(self._late), strict=True)), self._late_sum / SECOND)
        yield lateness
        yield _counters("xchronos_claims", "Executions written by fire times, by state", "state", self._claims)
        yield _counters("xchronos_settled", "Executions the scheduler has settled, by outcome", "outcome", self._ends)
        cluster = self.cluster
        units = open_ = waiting = 0
        if cluster is not None:
            units, open_ = len(cluster.cursors.known), len(cluster.open)
            waiting = sum(map(len, cluster.waiting.values()))
        yield GaugeMetricFamily("xchronos_units", "Units that this scheduler owns", units)
        yield GaugeMetricFamily("xchronos_open", "Executions that have not ended", open_)
        yield GaugeMetricFamily("xchronos_waiting", "Executions that no machine can take now", waiting)
        yield GaugeMetricFamily("xchronos_shards", "Shards that this scheduler owns", self.shards)
        yield CounterMetricFamily("xchronos_terms", "Terms of shards that this scheduler has begun", self.terms)
        yield GaugeMetricFamily("xchronos_unreadable_units", "Units that this scheduler cannot read", self.unreadable)
        yield GaugeMetricFamily("xchronos_leader", "Whether this scheduler leads the cluster", self.leader)


def _counters(name: str, documentation: str, label: str, counts: Mapping[str, int]) -> CounterMetricFamily:
    family = CounterMetricFamily(name, documentation, labels=[label])
    for value, count in counts.items():
        family.add_metric([value], count)
    return family
