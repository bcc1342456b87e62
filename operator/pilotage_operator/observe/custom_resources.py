"""kopf handlers: every event of a custom resource goes into its store. Nothing is decided or written here."""

import logging
from typing import Any

import kopf

from pilotage_operator.api.fields import GROUP, KINDS, VERSION
from pilotage_operator.observe.watch import Store


def register_handlers(registry: kopf.OperatorRegistry, stores: dict[str, Store]) -> None:
    """Follow ProcessClusters, PolicyCritics and AutomationGates into `stores`."""

    @kopf.on.login(registry=registry)  # type: ignore[untyped-decorator]
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    for kind, plural in KINDS.items():
        _follow(registry, plural, kind, stores[kind])


def _follow(registry: kopf.OperatorRegistry, plural: str, kind: str, store: Store) -> None:
    @kopf.on.event(GROUP, VERSION, plural, registry=registry)  # type: ignore[untyped-decorator]
    async def follow(event: kopf.RawEvent, **_: Any) -> None:
        store.take(event["type"], {**event["object"], "kind": kind})


def configure(settings: kopf.OperatorSettings) -> None:
    """kopf leaves no trace on objects (annotations, events, peering), and speaks only of trouble."""
    logging.getLogger("kopf").setLevel(logging.WARNING)
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.finalizer = f"{GROUP}/finalizer"
    settings.persistence.progress_storage = kopf.StatusProgressStorage(
        field="status.kopf.progress", touch_field="status.kopf.touch"
    )
    settings.persistence.diffbase_storage = kopf.StatusDiffBaseStorage(field="status.kopf.last")
    settings.execution.max_workers = 2
