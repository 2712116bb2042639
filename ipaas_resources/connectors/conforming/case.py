"""What a connector's tests.py tells the conformance suite about its product and its fake."""

from __future__ import annotations

import abc
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from ipaas_resources.connectors.fakes import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

    from ipaas_resources.connectors.base import SystemDocument
    from ipaas_resources.connectors.fakes import FakeApp
    from ipaas_resources.core.clock import Clock
    from ipaas_resources.core.records import FileRef, Operation
    from ipaas_resources.core.values import Document

#: Stands in secrets and personal values; may appear in no log and no error.
CANARY_SECRET = "canary-secret-4f1c77"  # noqa: S105 - it is the secret that must not leak
CANARY_PERSON = "Canary Person 90210"


class ConformanceCase(abc.ABC):
    """One connector under test. Override what differs; a capability that is absent is declared here, with its reason.

    "Wire" fields carry the product's names and values, "canonical" ones ours. `readable` and `writable` may be the
    same entity; records of `writable` must be readable too. Record ids are the connector's. All hooks that arrange
    records do it as a person at the product would: not through the API, not in the ledger.
    """

    #: An entity that is read by changes, and one that is created and updated.
    readable: ClassVar[str]
    writable: ClassVar[str]
    scope: ClassVar[str] = ""
    #: Text under `secrets` of the system document, by name; use CANARY_SECRET as the secret that counts.
    secrets: ClassVar[Mapping[str, str]] = {}

    # What the product does not have: the reason why, or "" where it has it.
    no_pages: ClassVar[str] = ""  # a scan of this connector is always one page
    no_links: ClassVar[str] = ""  # the product has no next links or page tokens
    no_incremental: ClassVar[str] = ""  # only full reads
    no_cursor_expiry: ClassVar[str] = "change cursors of this product do not expire"
    no_token_expiry: ClassVar[str] = ""  # a static API key
    no_refused_partially: ClassVar[str] = ""  # no batch in which one of several may be refused
    no_batched_find: ClassVar[str] = ""  # the product finds one key per call
    no_duplicate_keys: ClassVar[str] = ""  # the product forbids two records with one key
    no_taken_key: ClassVar[str] = "the product does not refuse a second record with the same key"
    no_update: ClassVar[str] = ""  # `writable` can be created only
    no_delete: ClassVar[str] = ""  # `writable` cannot be deleted through the API
    no_narrowing: ClassVar[str] = ""  # the product sends all fields always

    # Fields of `writable`, canonical names.
    #: Found by, and unique where creates are by natural key.
    key_fields: ClassVar[tuple[str, ...]]
    #: A text field (creatable) for hostile texts, and one that may hold CANARY_PERSON.
    text_field: ClassVar[str]
    personal_field: ClassVar[str]
    #: Takes 10,000 characters; "" with the reason in `no_long_text`.
    long_text_field: ClassVar[str] = ""
    no_long_text: ClassVar[str] = "no field of this entity takes 10,000 characters"
    #: A number field and the values that must keep every digit.
    decimal_field: ClassVar[str] = ""
    no_decimal: ClassVar[str] = "this entity has no decimal field"
    decimals: ClassVar[tuple[Decimal, ...]] = (Decimal("12345678901234567.89"), Decimal("0.1"), Decimal(-7))
    #: Wire values that mean "empty": (field, wire value); the canonical value must be None.
    empties: ClassVar[tuple[tuple[str, Any], ...]] = ()
    #: (field, wire value, canonical member name).
    enums: ClassVar[tuple[tuple[str, Any, Any], ...]] = ()
    #: (field, wire value) that breaks the field's type; None where the fake cannot hold one.
    unreadable: ClassVar[tuple[str, Any] | None] = None
    #: A field that the product keeps to itself, and a canonical value to try with.
    read_only: ClassVar[tuple[str, Any]]
    unknown_field: ClassVar[str] = "no_such_field"
    hostile_texts: ClassVar[tuple[str, ...]] = (
        "😀 👩\u200d🔬",
        "مختبر المعايرة \u200f",
        "a\x00b",
        "x\ud800y",
        "\udc00",
        "\ue000 0041",
        'O\'Brien & "Co" \\ #1+%20?/;=',
        "e\u0301 \u2028 line",
        "<script>{{x}}</script>",
    )
    #: Key texts that a find must carry through the product's query language.
    hostile_keys: ClassVar[tuple[str, ...]] = ("O'B''R", 'A"B', "A&B=C", "A+B%20", "A/B(C)", "Ä€😀", "A#B?C")

    #: Statuses by which the product says "changed meanwhile".
    conflict_statuses: ClassVar[tuple[int, ...]] = ()
    #: Requests that one scan of an empty or small entity needs at most; a paging loop must end well below 20 times it.
    requests_per_page: ClassVar[int] = 1

    # The system -------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def document(self) -> SystemDocument:
        """The system document; `secrets` refer to names of `self.secrets` as `env:NAME`."""

    @abc.abstractmethod
    def make_fake(self, clock: Clock) -> FakeApp:
        """The fake as the product behaves by default, its search lag included, without records."""

    def transport(self, fake: FakeApp) -> httpx.AsyncBaseTransport:
        """What the connector's HTTP client speaks to; override to route a sign-in host as well."""
        return fake.transport()

    @abc.abstractmethod
    def break_credentials(self, fake: FakeApp) -> None:
        """Make the product refuse our credentials for good."""

    def expire_tokens(self, fake: FakeApp) -> None:
        """Make the product refuse every token issued so far; new ones are issued."""
        raise NotImplementedError

    # Requests ---------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def list_path(self, entity: str) -> str:
        """A regular expression that finds list reads (full, incremental) of the entity in path?query."""

    @abc.abstractmethod
    def write_fault(self, **what: Any) -> Fault:
        """A fault that strikes requests which write `writable` (its creates and updates, batched or not)."""

    def list_fault(self, entity: str, **what: Any) -> Fault:
        """A fault that strikes list reads of the entity."""
        return Fault(path=self.list_path(entity), method="GET", **what)

    def loop_fault(self) -> Fault:
        """Makes each page of `readable` name itself, or one page token for ever, as the next."""
        raise NotImplementedError

    def foreign_link_fault(self, host: str) -> Fault:
        """Makes the next link of `readable`'s first page point to https://<host>/."""
        raise NotImplementedError

    def conflict_fault(self, status: int) -> Fault:
        """Makes the next update of `writable` be answered with this version conflict."""
        raise NotImplementedError

    def expire_cursor(self, fake: FakeApp) -> None:
        """Make every change cursor given out so far invalid."""
        raise NotImplementedError

    # Records by hand --------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def seed(self, fake: FakeApp, entity: str, count: int) -> list[str]:
        """Add ordinary records; their ids."""

    @abc.abstractmethod
    def plant(self, fake: FakeApp, fields: Mapping[str, Any]) -> str:
        """Add one record of `writable` with these fields (canonical name -> wire value), the rest ordinary; its id."""

    @abc.abstractmethod
    def touch(self, fake: FakeApp, entity: str, identifier: str) -> None:
        """Change the content of a record."""

    @abc.abstractmethod
    def remove(self, fake: FakeApp, entity: str, identifier: str) -> None:
        """Delete a record."""

    @abc.abstractmethod
    def stored(self, fake: FakeApp, identifier: str) -> Mapping[str, Any]:
        """The wire values of a record of `writable` by canonical field name, as the product holds them."""

    # Writes -----------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def new_fields(self, number: int) -> Document:
        """Canonical fields of a create that the product accepts; the key fields differ by number."""

    @abc.abstractmethod
    def changed_fields(self, number: int) -> Document:
        """Canonical fields of an update that the product accepts and that changes the record."""

    @abc.abstractmethod
    def refused_fields(self) -> Document:
        """Canonical fields, laid over `new_fields`, which the product (not the connector) refuses for their values."""

    def key_values(self, number: int) -> tuple[Any, ...]:
        """The key of `new_fields(number)`."""
        fields = self.new_fields(number)
        return tuple(fields[name] for name in self.key_fields)

    @abc.abstractmethod
    async def raw_create(self, fake: FakeApp, number: int, extra: Mapping[str, Any]) -> httpx.Response:
        """A create by plain HTTP, past the connector: `new_fields(number)` on the wire plus these fields."""

    missing_id: ClassVar[str]
    """A well-formed id that no record has."""

    # Subscriptions (connectors whose manifest says `webhooks: {automatic: true}`) ---------------------------------

    #: An entity of which the product tells nobody; "" where there is none.
    not_subscribable: ClassVar[str] = ""
    #: A regular expression that finds the requests which make or renew a subscription.
    subscribe_path: ClassVar[str] = "subscriptions"

    # Files ------------------------------------------------------------------------------------------------------

    no_file_source: ClassVar[str] = "no entity of this connector has a file field that can be read"
    no_file_target: ClassVar[str] = "no entity of this connector has a file field that can be written"

    def plant_file(self, fake: FakeApp, seed: str, size: int) -> tuple[str, str, str]:
        """A record with the file `file_chunks(seed, size)`: (entity, record id, field)."""
        raise NotImplementedError

    def file_operation(self, fake: FakeApp, file: FileRef) -> tuple[str, Operation]:
        """The entity and the operation that uploads this file."""
        raise NotImplementedError

    def upload_fault(self, **what: Any) -> Fault:
        """A fault that strikes the request which carries the file's bytes."""
        raise NotImplementedError

    def uploaded(self, fake: FakeApp) -> Sequence[tuple[int, str]]:
        """Size and SHA-256 (hex) of every finished upload that the product keeps now."""
        raise NotImplementedError
