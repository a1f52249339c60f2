"""What a scheduler counts."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from xchronos.model.records import Execution


class Metrics:
    """The scheduler's metrics, in a registry of the daemon's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.lateness = Histogram(
            "xchronos_fire_lateness_seconds",
            "From a fire time to the turn that decided about it",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1, 3, 10, 60, 600),
            registry=registry,
        )
        self._claims = Counter(
            "xchronos_claims_total", "Executions written by fire times, by state", ["state"], registry=registry
        )
        self._ends = Counter(
            "xchronos_settled_total", "Executions the scheduler has settled, by outcome", ["outcome"], registry=registry
        )
        self.units = Gauge("xchronos_units", "Units that this scheduler owns", registry=registry)
        self.open = Gauge("xchronos_open", "Executions that have not ended", registry=registry)
        self.waiting = Gauge("xchronos_waiting", "Executions that no machine can take now", registry=registry)
        self.shards = Gauge("xchronos_shards", "Shards that this scheduler owns", registry=registry)
        self.terms = Counter("xchronos_terms_total", "Terms of shards that this scheduler has begun", registry=registry)
        self.leader = Gauge("xchronos_leader", "Whether this scheduler leads the cluster", registry=registry)
        self._by_state = {
            state: self._claims.labels(state) for state in ("placed", "waiting", "queued", "delayed", "ended")
        }

    def claimed(self, executions: Iterable[Execution]) -> None:
        """A claim was committed."""
        for execution in executions:
            self._by_state[execution.state].inc()

    def settled(self, execution: Execution) -> None:
        """An execution has moved; counts those that ended."""
        if execution.outcome is not None:
            self._ends.labels(execution.outcome.value).inc()
