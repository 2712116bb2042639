"""What the fake tells of the changes of one set: one item per record, or one for the whole set when there are too many."""

from __future__ import annotations

from typing import Literal

import msgspec

from ipaas_resources.connectors.business_central.fake_table import wire_time

#: More changed records than this become one `collection` item (dynamics-subscriptions.md).
MOST_ITEMS = 1000
#: Milliseconds that the time of a notification lies before the record's own: it is when the change was queued.
QUEUED_BEFORE = 40

ChangeKind = Literal["created", "updated", "deleted"]


class Change(msgspec.Struct, kw_only=True):
    """One change of a record, before changes are merged."""

    kind: ChangeKind
    company: str
    set: str
    id: str
    stamp: int  # the record's own time, milliseconds since 1970
    at: float  # the clock's monotonic seconds
    timed: bool  # records of the set carry lastModifiedDateTime
    withdrawn: bool = False

    def withdraw(self) -> None:
        """The change was undone with its transaction: nobody is told."""
        self.withdrawn = True


class Notice(msgspec.Struct, kw_only=True):
    """One item of a notification, without what names the subscription."""

    kind: str
    resource: str
    modified: str
    at: float


def items_of(changes: list[Change]) -> list[Notice]:
    """The items for the changes of one set, at least one, in order."""
    merged: dict[str, Change] = {}
    for change in changes:
        before = merged.pop(change.id, None)
        # A record that is new to the receiver stays so when it is changed again at once.
        new = before is not None and before.kind == "created" and change.kind == "updated"
        merged[change.id] = msgspec.structs.replace(
            change,
            kind="created" if new else change.kind,
            at=change.at if before is None else before.at,
        )
    first = changes[0]
    path = f"api/v2.0/companies({first.company})/{first.set}"
    if len(merged) > MOST_ITEMS:
        return [_whole_set(path, changes)]
    return [
        Notice(
            kind=change.kind,
            resource=f"{path}({change.id})",
            modified=wire_time(change.stamp - QUEUED_BEFORE),
            at=change.at,
        )
        for change in merged.values()
    ]


def _whole_set(path: str, changes: list[Change]) -> Notice:
    """The set since the first change; the whole of it where that would hide a delete, or where records carry no time."""
    since = wire_time(min(change.stamp for change in changes) - QUEUED_BEFORE)
    whole = not changes[0].timed or any(change.kind == "deleted" for change in changes)
    query = "" if whole else f"?$filter=lastModifiedDateTime%20gt%20{since}"
    return Notice(
        kind="collection",
        resource=f"{path}{query}",
        modified=wire_time(max(change.stamp for change in changes) - QUEUED_BEFORE),
        at=min(change.at for change in changes),
    )
