"""A plugin of pytest that says which services the selected tests need.

`python -m pytest -p tests.services.needed --collect-only ARGUMENTS` prints `services needed: docker etcd`, for instance,
beside what pytest prints; packaging/test asks that way what it has to start.
"""

import os

import pytest

MARKS = ("docker", "etcd", "consul")
"""The markers of tests that need a service, and what packaging/lib.sh calls the services."""

FIXTURES: dict[str, tuple[str, ...]] = {
    "docker_host": ("docker",),
    "busybox_image": ("docker",),
    "etcd_server": ("etcd",),
    "make_etcd": ("etcd",),
    "consul_server": ("consul",),
    "make_consul": ("consul",),
    "cluster_services": (os.environ.get("XCHRONOS_CLUSTER_STORE", "etcd"),),
    "consul_cluster_services": ("consul",),
}
"""Fixtures that need services: many a test that uses one carries no marker."""


def needed_by(item: pytest.Item) -> set[str]:
    """The services that one test needs, by its markers and by its fixtures, those of fixtures included."""
    found = {mark.name for mark in item.iter_markers()} & set(MARKS)
    for name in getattr(item, "fixturenames", ()):
        found.update(FIXTURES.get(name, ()))
    return found


def pytest_collection_finish(session: pytest.Session) -> None:
    """Say it, when `-k`, `-m` and `--deselect` have left out what they leave out."""
    needed = set().union(*map(needed_by, session.items))
    print("\nservices needed:", *(name for name in MARKS if name in needed), flush=True)
